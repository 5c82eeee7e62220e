"""Sliced sequences give every interaction once, in order, and histories are for training."""

import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

HEADER = "user_id:token\titem_id_list:token_seq\titem_id:token"


def write(folder, part, lines, header=HEADER):
    (folder / f"s.{part}.inter").write_text("\n".join([header, *lines]) + "\n")


def interactions(dataset):
    """Return time and part of every interaction."""
    users, items = (dataset.vocabularies[kind].ids() for kind in ("user", "item"))
    log = dataset.interactions
    time = log.order if log.time is None else log.time
    parts = [0] * len(log) if dataset.given_split is None else dataset.given_split.tolist()
    return {
        (users[u], items[i]): (time, part)
        for u, i, time, part in zip(log.user.tolist(), log.item.tolist(), time.tolist(), parts, strict=True)
    }


def test_histories_of_training_and_of_unknown_users(tmp_path):
    write(tmp_path, "train", ["1\ta b\tc", "2\ta b c\td", "3\tb\ta"])
    write(tmp_path, "test", ["4\ta b\tc", "5\tb c\td"])
    dataset = load_dataset(tmp_path)
    assert sorted(dataset.vocabularies["item"].ids()) == ["a", "b", "c", "d"]
    assert interactions(dataset) == {
        (1, "a"): (0, 0), (1, "b"): (1, 0), (1, "c"): (2, 0),
        (2, "a"): (0, 0), (2, "b"): (1, 0), (2, "c"): (2, 0), (2, "d"): (3, 0),
        (3, "b"): (0, 0), (3, "a"): (1, 0),
        (4, "a"): (0, 0), (4, "b"): (1, 0), (4, "c"): (2, 2),
        (5, "b"): (0, 0), (5, "c"): (1, 0), (5, "d"): (2, 2),
    }  # fmt: skip


def test_every_prefix_of_a_sequence_is_the_sequence(tmp_path):
    """Rows in any order, windows that slide, and targets that are held out before they are history."""
    write(tmp_path, "train", ["u\ta b\tc", "u\t\ta", "u\ta\tb", "v\tx\ty"])
    write(tmp_path, "valid", ["u\tb c\td"])
    write(tmp_path, "test", ["u\tc d\te"])
    found = interactions(load_dataset(tmp_path))
    assert {item: value for (user, item), value in found.items() if user == "u"} == {
        "a": (0, 0), "b": (1, 0), "c": (2, 0), "d": (3, 1), "e": (4, 2),
    }  # fmt: skip


def test_repeats_of_a_first_history_are_kept(tmp_path):
    write(tmp_path, "train", ["u\ta b a\tc"])
    dataset = load_dataset(tmp_path, duplicates="keep")
    items = dataset.vocabularies["item"].ids()
    assert [items[i] for i in dataset.interactions.item.tolist()] == ["a", "b", "a", "c"]


def test_times_of_rows_are_kept_and_labels_are_of_the_item_after(tmp_path):
    header = f"{HEADER}\ttimestamp:float\tlabel:float"
    (tmp_path / "s.inter").write_text(f"{header}\nu\ta b\tc\t1600001000\t1\nu\ta b c\td\t1600002000\t0\n")
    dataset = load_dataset(tmp_path)
    expected = {("u", "a"): 1600000998, ("u", "b"): 1600000999, ("u", "c"): 1600001000}
    assert {pair: time for pair, (time, _) in interactions(dataset).items()} == expected
    assert "d" in dataset.vocabularies["item"].ids()
    assert dataset.interactions.weight.tolist() == [1, 1, 1]


def test_ratings_are_left_out_with_a_word(tmp_path, caplog):
    (tmp_path / "s.inter").write_text(f"{HEADER}\trating:float\nu\ta b\tc\t4\n")
    assert load_dataset(tmp_path).interactions.weight is None
    assert "ratings are not read, since those of the items in histories are unknown" in caplog.text
    (tmp_path / "s.inter").write_text(f"{HEADER}\trating:float\nu\ta b\tc\t4\nu\ta\tb\t\n")
    with pytest.raises(DataError, match="has histories in 'item_id_list', but rows without a rating"):
        load_dataset(tmp_path)
