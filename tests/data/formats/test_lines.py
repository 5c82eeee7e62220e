"""Lines of train.txt: lists, ratings, triples and tables, and what fits two of them."""

import itertools

import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

FOUR = {
    "train.txt": "1\t101\t5\t978300760\n1\t102\t4\t978300761\n1\t103\t3\t978300762\n2\t101\t5\t978300763\n2\t103\t5\t978300764\n",
    "test.txt": "1\t104\t5\t978300770\n2\t102\t4\t978300771\n",
}
THREE = {name: "".join(f"{line.rpartition(chr(9))[0]}\n" for line in text.splitlines()) for name, text in FOUR.items()}
ENTITIES = [f"/m/{n}" for n in range(12)]
TRIPLES = [f"{a} /film/genre /m/a{n % 5}" for n, a in enumerate(ENTITIES)] + [
    f"{a} /award/nominee {b}" for a, b in itertools.pairwise(ENTITIES)
]
FACTS = {"train.txt": "".join(f"{line}\n" for line in TRIPLES[:16]), "test.txt": "".join(f"{line}\n" for line in TRIPLES[16:])}


def write(folder, files):
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def rows(dataset):
    log = dataset.interactions
    pairs = zip(dataset.vocabularies["user"].ids(log.user), dataset.vocabularies["item"].ids(log.item), strict=True)
    return sorted((*pair, part) for pair, part in zip(pairs, dataset.given_split.tolist(), strict=True))


PAIRS = [(1, 101, 0), (1, 102, 0), (1, 103, 0), (1, 104, 2), (2, 101, 0), (2, 102, 2), (2, 103, 0)]


@pytest.mark.parametrize("separator", ["\t", " ", "  ", ",", "::", ";"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_user_item_rating_time(tmp_path, caplog, separator, end):
    for name, text in FOUR.items():
        (tmp_path / name).write_text(text.replace("\t", separator), newline=end)
    dataset = load_dataset(tmp_path)
    assert rows(dataset) == PAIRS
    assert dataset.interactions.weight.tolist() == [5.0, 4.0, 3.0, 5.0, 5.0, 5.0, 4.0]
    assert dataset.interactions.time.tolist() == [978300760, 978300761, 978300762, 978300763, 978300764, 978300770, 978300771]
    assert not caplog.text


def test_the_time_may_stand_before_the_rating(tmp_path):
    (tmp_path / "train.txt").write_text("1 101 978300760 5\n1 102 978300761 4\n2 101 978300762 3\n")
    log = load_dataset(tmp_path).interactions
    assert log.weight.tolist() == [5.0, 4.0, 3.0]
    assert log.time.tolist() == [978300760, 978300761, 978300762]


def test_user_item_rating_is_read_with_a_warning_that_names_the_setting(tmp_path, caplog):
    dataset = load_dataset(write(tmp_path, THREE))
    assert rows(dataset) == PAIRS
    assert dataset.interactions.weight.tolist() == [5.0, 4.0, 3.0, 5.0, 5.0, 5.0, 4.0]
    assert dataset.interactions.time is None
    assert "read as user, item and rating; set format to 'knowledge' (head, relation and tail) or 'lists'" in caplog.text
    assert caplog.text.count("are read as") == 1
    caplog.clear()
    assert rows(load_dataset(tmp_path, format="ratings")) == PAIRS
    assert not caplog.text
    assert load_dataset(tmp_path, format="lists").num_items == 7
    assert len(load_dataset(tmp_path, format="knowledge").triples) == 7


def test_user_item_time(tmp_path):
    write(
        tmp_path, {name: text.replace("\t5\t", "\t").replace("\t4\t", "\t").replace("\t3\t", "\t") for name, text in FOUR.items()}
    )
    dataset = load_dataset(tmp_path)
    assert rows(dataset) == PAIRS
    assert dataset.interactions.weight is None
    assert dataset.interactions.time[0] == 978300760


def test_columns_by_number(tmp_path):
    settings = {"header": "none", "user_column": 2, "item_column": 1, "weight_column": 3}
    dataset = load_dataset(write(tmp_path, THREE), **settings)
    assert dataset.vocabularies["user"].ids() == [101, 102, 103, 104]
    assert dataset.interactions.weight.tolist() == [5.0, 4.0, 3.0, 5.0, 5.0, 5.0, 4.0]


def test_pairs_are_the_same_as_lists(tmp_path):
    (tmp_path / "train.txt").write_text("1 10\n1 11\n2 10\n")
    (tmp_path / "test.txt").write_text("2,11\n")
    (tmp_path / "test.txt").write_text("2 11\n")
    assert rows(load_dataset(tmp_path)) == [(1, 10, 0), (1, 11, 0), (2, 10, 0), (2, 11, 2)]
    (tmp_path / "train.txt").write_text("1,10\n1,11\n2,10\n")
    (tmp_path / "test.txt").write_text("2,11\n")
    assert rows(load_dataset(tmp_path)) == [(1, 10, 0), (1, 11, 0), (2, 10, 0), (2, 11, 2)]


def test_lines_with_a_header_are_tables(tmp_path):
    (tmp_path / "train.txt").write_text("item user rating\n101 1 5\n102 1 4\n")
    (tmp_path / "test.txt").write_text("item user rating\n103 1 2\n")
    dataset = load_dataset(tmp_path)
    assert rows(dataset) == [(1, 101, 0), (1, 102, 0), (1, 103, 2)]
    assert rows(load_dataset(tmp_path, format="ratings")) == [(1, 101, 0), (1, 102, 0), (1, 103, 2)]
    assert dataset.interactions.weight.tolist() == [5.0, 4.0, 2.0]


@pytest.mark.parametrize("name", ["csv", "tsv", "csv.gz"])
def test_one_table_per_part(tmp_path, name):
    import pandas as pd

    separator = "\t" if name == "tsv" else ","
    for part, item in (("train", 10), ("dev", 11), ("test", 12)):
        frame = pd.DataFrame({"userId": [1, 2], "itemId": [item, item], "rating": [3, 4]})
        frame.to_csv(tmp_path / f"{part}.{name}", sep=separator, index=False)
    assert rows(load_dataset(tmp_path)) == [(u, i, part) for u in (1, 2) for i, part in ((10, 0), (11, 1), (12, 2))]


def test_parts_need_the_same_columns(tmp_path):
    (tmp_path / "train.csv").write_text("user,item\n1,2\n2,2\n")
    (tmp_path / "test.csv").write_text("user,item,rating\n1,3,4\n")
    with pytest.raises(DataError, match=r"test\.csv has a weight column, which other parts lack"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("separator", ["\t", " "])
def test_triples_with_tabs_or_spaces(tmp_path, caplog, separator):
    dataset = load_dataset(write(tmp_path, {name: text.replace(" ", separator) for name, text in FACTS.items()}))
    assert len(dataset.triples) == len(TRIPLES)
    assert dataset.num_users == 0
    assert set(dataset.vocabularies["relation"].ids()) == {"/film/genre", "/award/nominee"}
    assert not caplog.text
    chain = load_dataset(write(tmp_path, {"train.txt": "a r b\nb s c\n", "test.txt": "c r d\n"}))  # no head occurs twice
    assert len(chain.triples) == 3


def test_triples_with_spaces_in_names(tmp_path):
    (tmp_path / "train.txt").write_text("New York\tis in\tUSA\nParis\tis in\tFrance\n")
    assert set(load_dataset(tmp_path).vocabularies["entity"].ids()) == {"New York", "USA", "Paris", "France"}


def test_a_header_of_triples_is_no_triple(tmp_path):
    (tmp_path / "train.txt").write_text("head\ttail\trelation\na b\tc\tr\nc\ta b\tr\n")
    dataset = load_dataset(tmp_path)
    assert dataset.vocabularies["relation"].ids() == ["r"]
    assert dataset.vocabularies["entity"].ids() == ["a b", "c"]


@pytest.mark.parametrize("separator", ["\t", " "])
def test_lists_of_equal_length(tmp_path, separator):
    lines = [f"{user} {10 + user} {11 + user} {12 + user}" for user in range(8)]
    for width in (3, 4):
        text = "".join(separator.join(line.split()[:width]) + "\n" for line in lines)
        dataset = load_dataset(write(tmp_path, {"train.txt": text}))
        assert len(dataset.interactions) == 8 * (width - 1)
        assert dataset.num_users == 8


def test_lists_with_many_users_of_two_items_and_ragged_lists_with_tabs(tmp_path):
    (tmp_path / "train.txt").write_text("1 10 11\n2 10 12\n3 11\n4 10 11 12 13\n")
    assert len(load_dataset(tmp_path).interactions) == 9
    (tmp_path / "train.txt").write_text("1\t10\t11\n2\t10\n3\t11\n4\t10\t11\t12\t13\n")
    assert len(load_dataset(tmp_path).interactions) == 8


@pytest.mark.parametrize(
    "text",
    [
        "1 101 5\n2 102 4\n3 101 5\n",  # three ratings, or users with two items
        "1 1 2\n1 2 3\n2 1 3\n",  # small numbers throughout
        "u1 i1 37\nu1 i2 2\nu2 i1 140\n",  # counts, or triples with numbers
        "a x b\nc y d\n",
        "1 101 50 7\n1 102 40 8\n2 101 30 9\n",  # four columns without a time
        "1 2 3 4 5\n1 3 4 5 6\n",
    ],
)
def test_what_fits_two_forms_is_refused_with_the_setting(tmp_path, text):
    (tmp_path / "train.txt").write_text(text)
    with pytest.raises(
        DataError, match=r"train\.txt has \d columns in every line, and fits more than one form; set format to"
    ) as caught:
        load_dataset(tmp_path)
    assert "\n" not in str(caught.value)
    assert load_dataset(tmp_path, format="lists").num_users > 0


@pytest.mark.parametrize("number", [3, 40, 57])
@pytest.mark.parametrize("width", [3, 4])
def test_every_line_is_checked(tmp_path, number, width):
    lines = [f"{n % 7} {100 + n // 7} {n % 5 + 1} {978300000 + n}".split()[:width] for n in range(60)]
    lines[number - 1] = lines[number - 1][:-1]
    (tmp_path / "train.txt").write_text("".join("\t".join(line) + "\n" for line in lines))
    with pytest.raises(DataError, match=rf"train\.txt line {number} must hold .* set format to 'lists'"):
        load_dataset(tmp_path)
    lines[number - 1] = lines[0]
    (tmp_path / "train.txt").write_text("\n".join(" ".join(line) for line in lines))
    (tmp_path / "test.txt").write_text("3 9\n")
    with pytest.raises(DataError, match=r"test\.txt line 1 must hold \d fields like most lines but is '3 9'"):
        load_dataset(tmp_path)


def test_format_ratings_names_the_odd_line(tmp_path):
    (tmp_path / "train.txt").write_text("1 10 5\n1 11 4\n2 10\n")
    with pytest.raises(DataError, match=r"train\.txt line 3 must hold user, item and optionally rating and time"):
        load_dataset(tmp_path, format="ratings")
    (tmp_path / "train.txt").write_text("1 10 5\n1 11 4\n2 10 x\n")
    with pytest.raises(DataError, match=r"train\.txt line 3 has 'x' in column '3', which is not a finite number"):
        load_dataset(tmp_path, format="ratings")


def test_triples_are_no_interactions(tmp_path):
    with pytest.raises(DataError, match=r"train\.txt holds triples, not interactions; set format to 'knowledge'"):
        load_dataset(write(tmp_path, FACTS), format="folder")


def test_sequences_that_end_with_times_are_refused(tmp_path):
    (tmp_path / "sequences.txt").write_text("1 101 978300760\n1 102 978300761\n2 101 978300762\n")
    with pytest.raises(DataError, match=r"sequences\.txt .* every line ends with a time; rename it to train\.txt"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, format="lists").num_items == 5


def test_a_table_of_interactions_wins_over_lines(tmp_path):
    write(tmp_path, {**THREE, "interactions.csv": "user,item\n1,2\n"})
    assert len(load_dataset(tmp_path).interactions) == 1
