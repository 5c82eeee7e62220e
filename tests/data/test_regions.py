"""Script that makes one data set per region."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest

from gmmrec.data.load import load_dataset

SCRIPT = Path(__file__).resolve().parents[2] / "data_scripts" / "regions.py"
HOUR = 3600
BEGIN = 24 * 16_000  # days of 2013, in hours since 1970


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("regions", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write(folder: Path, hours: int) -> Path:
    """Write two distant regions, a location outside both, and a repeated visit; visits are ``hours`` apart."""
    folder.mkdir()
    positions = [(0, 10.0, -75.0, "East Town", "7 8"), (1, 12.0, -75.0, "East Town", "7"), (2, 0.0, 30.0, "West", "9 7")]
    positions += [(3, 2.0, 30.0, "West", "7"), (4, 0.0, 0.0, "other", "8")]
    frame = pd.DataFrame(positions, columns=["poi", "lat", "lon", "region", "categories"])
    frame.to_csv(folder / "pois.csv.gz", index=False)
    pairs = [(0, 1), (0, 0), (1, 0), (1, 2), (2, 3), (2, 2), (0, 4)]
    visited = enumerate([*pairs, (1, 0)])  # the latest comes first
    visits = [(user, poi, (BEGIN + hours * (10 - n)) * HOUR) for n, (user, poi) in visited]
    pd.DataFrame(visits, columns=["user", "poi", "unix_time"]).to_csv(folder / "checkins.csv.gz", index=False)
    parts = [(user, poi, 1, "test" if poi == 1 else "train") for user, poi in pairs]
    pd.DataFrame(parts, columns=["user", "poi", "value", "split"]).to_csv(folder / "split.csv.gz", index=False)
    return folder


def make(script, source: Path, out: Path, monkeypatch, *flags: str) -> None:
    monkeypatch.setattr("sys.argv", ["regions.py", str(source), "--out", str(out), *flags])
    script.main()


def test_every_region_is_a_data_set_with_local_times_and_scale(script, tmp_path, monkeypatch) -> None:
    make(script, write(tmp_path / "source", hours=1), tmp_path / "out", monkeypatch, "--least", "3", "--categories", "2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["east-town", "west"]
    east = load_dataset(tmp_path / "out" / "east-town")
    log = east.interactions
    assert (east.num_users, east.num_items, len(log)) == (2, 2, 3)
    assert log.time.tolist() == [(BEGIN + hour - 5) * HOUR for hour in (3, 9, 10)]  # the first visit of the repeated pair
    assert east.features["location"].values[:, 0].abs().tolist() == [1.0, 1.0]
    assert east.features["location"].values[:, 1].tolist() == [0.0, 0.0]
    items = east.vocabularies["item"].rows([0, 1])
    assert east.features["categories"].values[items].tolist() == [[1.0, 1.0], [1.0, 0.0]]  # 7 is more frequent than 8
    west = load_dataset(tmp_path / "out" / "west")
    assert west.interactions.time.tolist() == [(BEGIN + hour + 2) * HOUR for hour in (5, 6, 7)]
    assert west.features["categories"].dim == 2
    assert east.given_split.tolist().count(2) == 1


def test_times_of_whole_days_are_kept_and_small_regions_dropped(script, tmp_path, monkeypatch) -> None:
    make(script, write(tmp_path / "source", hours=24), tmp_path / "out", monkeypatch, "--least", "3")
    assert bool((load_dataset(tmp_path / "out" / "east-town").interactions.time % (24 * HOUR) == 0).all())
    make(script, tmp_path / "source", tmp_path / "none", monkeypatch, "--least", "4")
    assert not (tmp_path / "none").exists()


def test_a_pair_without_a_part_is_refused(script, tmp_path, monkeypatch) -> None:
    source = write(tmp_path / "source", hours=1)
    split = pd.read_csv(source / "split.csv.gz").iloc[1:]
    split.to_csv(source / "split.csv.gz", index=False)
    with pytest.raises(ValueError, match=r"split.csv.gz has no part for 1 of the pairs"):
        make(script, source, tmp_path / "out", monkeypatch)
