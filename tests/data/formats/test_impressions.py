"""Reader of the MIND layout: content of a hand-written folder, and errors with file and line.

Also covers :mod:`gmmrec.data.formats.news`.
"""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.load import load_dataset
from gmmrec.data.split import SplitConfig, split_dataset
from gmmrec.errors import DataError

ENTITY = (
    '[{"Label": "Super Bowl", "Type": "J", "WikidataId": "Q32096", "Confidence": 0.999, "OccurrenceOffsets": [4], '
    '"SurfaceForms": ["Super Bowl"]}, '
    '{"Label": "Texas", "Type": "G", "WikidataId": "Q1439", "Confidence": 1.0, "OccurrenceOffsets": [20], '
    '"SurfaceForms": ["Texas"]}]'
)
PLACE = '[{"Label": "Utah", "Type": "G", "WikidataId": "Q99", "Confidence": 1, "OccurrenceOffsets": [0], "SurfaceForms": ["Utah"]}]'
UNKNOWN = (
    '[{"Label": "Nobody", "Type": "P", "WikidataId": "Q1", "Confidence": 1.0, "OccurrenceOffsets": [0], "SurfaceForms": ["N"]}]'
)
NEWS = [
    f'N1\tsports\tfootball_nfl\tThe Super Bowl in "Texas"\tAn abstract.\thttps://example.org/1.html\t{ENTITY}\t[]',
    "N2\tfinance\tmarkets\tThe bowl of stocks\t\thttps://example.org/2.html\t\t",
    f"N3\tnews\tnewsus\tNobody knows\tMore.\thttps://example.org/3.html\t{UNKNOWN}\t{PLACE}",
    "N4\tsports\tgolf\tGolf\tEven more.\thttps://example.org/4.html\t[]\t[]",
    "N5\tsports\tgolf\tNever seen\t\thttps://example.org/5.html\t[]\t[]",
]
TRAIN = [
    "1\tU1\t11/13/2019 8:36:57 AM\tN1 N2\tN3-1 N4-0",
    "2\tU2\t11/11/2019 1:03:52 PM\t\tN3-0 N1-1 N2-1",
    "3\tU1\t11/14/2019 12:00:00 AM\tN1 N2 N3\tN4-0 N3-0",
]
DEV = ["1\tU1\t11/15/2019 5:55:33 PM\tN1 N2 N3\tN4-1 N2-0", "2\tU3\t11/15/2019 5:55:33 PM\tN2 N4\tN1-1 N3-0"]
VECTORS = {"Q32096": np.linspace(-1, 1, 100), "Q1439": np.linspace(0, 4, 100), "Q99": np.ones(100)}
ENTITIES = ["\t".join([name, *map(str, vector), ""]) for name, vector in VECTORS.items()]


def write(folder: Path, name: str, lines: list[str]) -> None:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    for part, behaviors, news in (("MINDsmall_train", TRAIN, NEWS[:3]), ("MINDsmall_dev", DEV, NEWS[1:])):
        write(tmp_path / part, "behaviors.tsv", behaviors)
        write(tmp_path / part, "news.tsv", news)
        write(tmp_path / part, "entity_embedding.vec", ENTITIES)
        write(tmp_path / part, "relation_embedding.vec", ["P31\t0.1\t0.2\t"])
    return tmp_path


def lists(dataset: Dataset, name: str) -> list[list[str]]:
    rows = getattr(dataset.impressions, name)
    items = dataset.vocabularies["item"].ids()
    return [[items[i] for i in rows.take(torch.tensor([n])).values.tolist()] for n in range(len(rows))]


def log(dataset: Dataset) -> list[tuple[str, str, int]]:
    users, items = dataset.vocabularies["user"].ids(), dataset.vocabularies["item"].ids()
    rows = zip(dataset.interactions.user, dataset.interactions.item, dataset.given_split, strict=True)
    return [(users[u], items[i], int(part)) for u, i, part in rows]


def test_impressions_are_read_in_order(mind):
    dataset = load_dataset(mind)
    impressions = dataset.impressions
    assert [dataset.vocabularies["user"].ids()[u] for u in impressions.user.tolist()] == ["U1", "U2", "U1", "U1", "U3"]
    assert lists(dataset, "shown") == [["N3", "N4"], ["N3", "N1", "N2"], ["N4", "N3"], ["N4", "N2"], ["N1", "N3"]]
    assert lists(dataset, "history") == [["N1", "N2"], [], ["N1", "N2", "N3"], ["N1", "N2", "N3"], ["N2", "N4"]]
    assert impressions.clicked.int().tolist() == [1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 0]
    morning = int(np.datetime64("2019-11-13T08:36:57", "s").astype(int))
    assert impressions.time.tolist()[:2] == [morning, int(np.datetime64("2019-11-11T13:03:52", "s").astype(int))]
    assert impressions.part.tolist() == [0, 0, 1, 2, 2]  # the latest of train is for validation, dev for test
    assert impressions.history_time is None


def test_interactions_are_clicks_in_the_part_of_their_impression_and_histories(mind):
    dataset = load_dataset(mind)
    assert sorted(log(dataset)) == [
        ("U1", "N1", 0),
        ("U1", "N2", 0),
        ("U1", "N3", 0),  # clicked in training, then repeated in later histories
        ("U1", "N4", 2),
        ("U2", "N1", 0),
        ("U2", "N2", 0),
        ("U3", "N1", 2),
        ("U3", "N2", 0),
        ("U3", "N4", 0),
    ]
    time = dataset.interactions.time
    assert time.tolist() == sorted(time.tolist())
    items = [item for user, item, _ in log(dataset) if user == "U1"]
    assert items == ["N1", "N2", "N3", "N4"]


def test_held_out_clicks_in_later_histories_are_not_trained_on(tmp_path):
    days = [f"{n}\tU1\t11/{n:02}/2019 8:00:00 AM\t{' '.join(f'N{k}' for k in range(n))}\tN{n}-1 N99-0" for n in range(1, 21)]
    write(tmp_path, "behaviors.tsv", days)
    dataset = load_dataset(tmp_path)
    parts = {item: part for _, item, part in log(dataset)}
    assert [parts[f"N{n}"] for n in range(21)] == [0] * 17 + [1] * 2 + [2] * 2
    assert dataset.impressions.part.tolist() == [0] * 16 + [1] * 2 + [2] * 2
    split = split_dataset(dataset)
    assert len(split.valid) == 2
    assert split.impressions is dataset.impressions


@pytest.mark.parametrize("seen", ["N5-0 N4-1", "N5-1 N4-0"])
def test_a_held_out_click_explains_no_earlier_one(tmp_path, seen):
    train = ["1\tU1\t11/13/2019 8:00:00 AM\tN1\tN2-1 N3-0", "2\tU1\t11/13/2019 9:00:00 AM\tN1 N2 N5\tN2-0 N3-1"]
    train += [f"{number}\tU2\t11/13/2019 {number}:00:00 PM\t\tN{number}-1 N6-0" for number in (1, 2, 3)]
    write(tmp_path / "train", "behaviors.tsv", train)
    write(tmp_path / "dev", "behaviors.tsv", [f"9\tU1\t11/15/2019 8:00:00 AM\tN1 N2 N5 N3\t{seen}"])
    dataset = load_dataset(tmp_path, duplicates="keep")
    log = split_dataset(dataset).train
    ids = dataset.vocabularies["item"].ids(log.item[log.user == 0])
    assert sorted(ids) == ["N1", "N2", "N3", "N5"]  # N5 was clicked before the second impression, wherever it was shown


def test_impressions_of_the_same_second_stay_in_one_part(tmp_path):
    write(tmp_path, "behaviors.tsv", [f"{n}\tU{n}\t11/1/2019 {8 + n // 8}:00:00 AM\tN1\tN2-1 N3-0" for n in range(24)])
    assert load_dataset(tmp_path).impressions.part.bincount().tolist() in ([8, 8, 8], [16, 0, 8])


def test_articles_have_titles_categories_and_entity_vectors(mind):
    dataset = load_dataset(mind)
    assert dataset.vocabularies["item"].ids() == ["N1", "N2", "N3", "N4", "N5"]
    items = dataset.attributes["item"]
    assert items["title"].tolist()[:2] == ['The Super Bowl in "Texas"', "The bowl of stocks"]
    assert items["category"].tolist() == ["sports", "finance", "news", "sports", "sports"]
    assert items["subcategory"][0] == "football_nfl"
    assert items["abstract"][0] == "An abstract."
    assert items["abstract"].isna().tolist() == [False, True, False, False, True]
    entity = dataset.features["entity"]
    assert torch.equal(entity.values[0], torch.tensor(np.stack([VECTORS["Q32096"], VECTORS["Q1439"]]), dtype=torch.float))
    assert entity.mask.any(1).tolist() == [True, False, False, False, False]  # Q1 has no vector, Q99 is not in a title
    assert entity.tokens.labels("N1", 2) == ["Super_Bowl", "Texas"]


def test_words_of_titles_get_their_vectors(mind):
    write(mind, "word_embedding.vec", ["3 2", "the 1 0", "bowl 0 1", "sofa 5 5"])
    words = load_dataset(mind).features["words"]
    assert words.values.shape == (5, 2, 2)
    assert words.values[0].tolist() == [[1.0, 0.0], [0.0, 1.0]]  # the (super) bowl (in texas)
    assert words.mask.sum(1).tolist() == [2, 2, 0, 0, 0]
    assert words.tokens.labels("N2", 2) == ["the", "bowl"]


def test_one_folder_gzipped_with_other_items_and_times_of_histories(tmp_path):
    rows = [f"{n}\tu\t11/{n:02}/2019 8:00:00 AM\t7 8\t{n}-1 30-0\t1572000000 1572000100" for n in range(1, 11)]
    with gzip.open(tmp_path / "behaviors.tsv.gz", "wt") as file:
        file.write("\n".join(rows))
    (tmp_path / "items.csv").write_text("item,title\n30,thirty\n7,seven\n")
    np.savez(tmp_path / "image_feat.npz", ids=np.array([30, 7]), values=np.ones((2, 3)))
    dataset = load_dataset(tmp_path)
    assert dataset.vocabularies["item"].ids()[:2] == [30, 7]
    assert dataset.features["image"].present.sum() == 2
    assert dataset.impressions.history_time.tolist() == [1572000000, 1572000100] * 10
    assert dataset.interactions.time.tolist()[:2] == [1572000000, 1572000100]
    moved = load_dataset(tmp_path, utc_offset=2)
    assert torch.equal(moved.impressions.time, dataset.impressions.time + 7200)
    assert torch.equal(moved.impressions.history_time, dataset.impressions.history_time + 7200)


def test_labels_of_entities_become_ones_and_zeros(tmp_path):
    write(tmp_path, "behaviors.tsv", TRAIN)
    write(tmp_path, "news_entity.csv", ["news,entity", "N1,Texas", "N1,Super Bowl", "N4,Texas", "N77,Texas"])
    table = load_dataset(tmp_path).features["entity"]
    by_id = dict(zip(load_dataset(tmp_path).vocabularies["item"].ids(), table.values.tolist(), strict=True))
    assert (by_id["N1"], by_id["N4"], by_id["N2"]) == ([1.0, 1.0], [1.0, 0.0], [0.0, 0.0])
    assert table.present.sum() == 2


def test_splits_that_would_train_on_held_out_clicks_are_refused(mind):
    with pytest.raises(DataError, match="choose split 'given' instead of 'random'"):
        split_dataset(load_dataset(mind), SplitConfig("random"))


def test_impressions_keep_all_their_items(mind):
    with pytest.raises(DataError, match="k_core would remove items from the impressions"):
        load_dataset(mind, k_core=2)


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        (
            "behaviors.tsv",
            "9\tU1\t11/13/2019 8:36:57 AM\tN1",
            "line 4 has 4 fields, but an impression must have five",
        ),
        ("behaviors.tsv", "9\tU1\t2019-11-13\tN1\tN2-1", "behaviors.tsv line 4 has '2019-11-13' as its time"),
        ("behaviors.tsv", "9\tU1\t11/13/2019 8:36:57 AM\tN1\tN2", "behaviors.tsv line 4 has 'N2' as its items shown"),
        ("behaviors.tsv", "9\tU1\t11/13/2019 8:36:57 AM\tN1\t", "behaviors.tsv line 4 has '' as its items shown"),
        ("behaviors.tsv", "9\t\t11/13/2019 8:36:57 AM\tN1\tN2-1", "behaviors.tsv line 4 has '' as its user"),
        ("behaviors.tsv", "9\tU\t11/13/2019 8:36:57 AM\tN1 N2\tN2-1\t5", "behaviors.tsv line 1 has '' as its times of the history"),
        (
            "behaviors.tsv",
            "9\tU\t11/13/2019 8:36:57 AM\tN1\tN2-1 N1-0\t1573000000000",
            "as its times of the history; write one for each click, in seconds since 1970",
        ),
        (
            "news.tsv",
            "N9\tsports\tgolf\tTitle\tAbstract\taddress\t[]",
            "line 4 has 7 fields, but an article must have eight",
        ),
        ("news.tsv", "N9\ta\tb\tc\td\te\tnothing\t[]", "news.tsv line 4 has 'nothing' as the entities of its title"),
        (
            "news.tsv",
            'N9\ta\tb\tc\td\te\t[{"Label": "x"}]\t[]',
            "line 4 has .* expected is a JSON list of objects",
        ),
        ("news.tsv", NEWS[0], "news.tsv has article 'N1' twice"),
        ("entity_embedding.vec", "Q5\t1.0", "entity_embedding.vec line 4 has 1 numbers, but the lines before have 100"),
        ("entity_embedding.vec", "Q1\tx" + "\t0" * 99, "entity_embedding.vec line 4 holds something that is not a number"),
    ],
)
def test_errors_name_file_and_line(mind, name, line, message):
    path = mind / "MINDsmall_train" / name
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(mind)
    assert "\n" not in str(caught.value)


def test_a_folder_without_impressions_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds no behaviors.tsv, nor does a subfolder 'train'"):
        load_dataset(tmp_path, format="impressions")


WITHHELD = ["1\tU1\t11/16/2019 8:36:57 AM\tN1 N2\tN3 N4", "2\tU9\t11/16/2019 8:36:58 AM\t\tN1"]


def test_a_test_folder_without_labels_is_named_and_left_out(mind, caplog):
    before = load_dataset(mind)
    assert "not read" not in caplog.text
    write(mind / "MINDsmall_test", "behaviors.tsv", WITHHELD)
    dataset = load_dataset(mind)
    assert "MINDsmall_test is not read: the items it shows have no labels, as its clicks are withheld" in caplog.text
    assert log(dataset) == log(before)
    assert (before.unread.files, dataset.unread.files) == ([], ["MINDsmall_test/"])


def test_a_test_folder_without_labels_is_refused_with_the_reason(tmp_path):
    write(tmp_path / "MINDsmall_test", "behaviors.tsv", WITHHELD)
    with pytest.raises(DataError, match=r"MINDsmall_test shows items without labels, such as 'N3 N4': its clicks are withheld"):
        load_dataset(tmp_path / "MINDsmall_test")


def test_with_a_test_folder_with_labels_dev_is_for_validation(mind):
    write(mind / "MINDsmall_test", "behaviors.tsv", ["1\tU2\t11/16/2019 8:36:57 AM\tN1 N2\tN4-1 N3-0"])
    dataset = load_dataset(mind)
    assert dataset.impressions.part.tolist() == [0, 0, 0, 1, 1, 2]
    assert {("U1", "N4", 1), ("U3", "N1", 1), ("U2", "N4", 2)} <= set(log(dataset))


def test_spaces_around_ids_of_articles_are_removed(mind):
    news = mind / "MINDsmall_train" / "news.tsv"
    news.write_text(news.read_text().replace("N1\t", "N1 \t"))
    dataset = load_dataset(mind)
    assert dataset.attributes["item"]["title"][int(dataset.vocabularies["item"].rows(["N1"]))] == 'The Super Bowl in "Texas"'
