"""Reviews as Amazon and Yelp distribute them: files of JSON objects, alone or with those of items and users."""

import gzip
import json

import pytest

from gmmrec.data.load import load_dataset
from gmmrec.errors import DataError

AMAZON_2018 = [
    {
        "overall": 5.0 - n % 3,
        "verified": True,
        "reviewTime": "09 1, 2016",
        "reviewerID": f"A{n % 3}",
        "asin": f"B{n:03}",
        "style": {"Color:": " Red"},
        "reviewText": 'nice "one"',
        "unixReviewTime": 1472688000 + n,
    }
    for n in range(9)
]
AMAZON_2023 = [
    {
        "rating": 4.0,
        "title": "Great",
        "text": "good thing",
        "images": [],
        "asin": f"V{n}",
        "parent_asin": f"B{n}",
        "user_id": f"A{n % 3}",
        "timestamp": 1588687728 + n,
        "verified_purchase": True,
    }
    for n in range(9)
]


def write(path, objects):
    text = "".join(f"{json.dumps(entry)}\n" for entry in objects)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


@pytest.mark.parametrize("name", ["reviews.json", "reviews.json.gz", "Baby_5.jsonl", "Baby_5.ndjson"])
def test_amazon_reviews_of_2018(tmp_path, name):
    path = write(tmp_path / name, AMAZON_2018)
    for source in (path, tmp_path):
        dataset = load_dataset(source)
        assert (dataset.num_users, dataset.num_items) == (3, 9)
        assert dataset.interactions.weight.tolist() == [5.0, 4.0, 3.0] * 3
        assert dataset.interactions.time.tolist() == [1472688000 + n for n in range(9)]
        assert dataset.reviews.words[2:] == ("nice", "one")
        assert dataset.interactions.review.tolist() == list(range(9))


def test_items_of_amazon_are_those_of_the_metadata(tmp_path):
    write(tmp_path / "Baby.jsonl", AMAZON_2023)
    meta = [{"main_category": "Baby", "title": f"Title {n}", "parent_asin": f"B{n}", "images": [{"hi": "u"}]} for n in range(9)]
    write(tmp_path / "meta_Baby.jsonl.gz", meta)
    dataset = load_dataset(tmp_path)
    assert dataset.vocabularies["item"].ids() == [f"B{n}" for n in range(9)]
    assert dataset.attributes["item"]["title"].tolist() == [f"Title {n}" for n in range(9)]


def test_metadata_of_2014_are_python_dictionaries(tmp_path, caplog):
    write(tmp_path / "reviews_Baby.json", AMAZON_2018)
    lines = [
        f"{{'asin': 'B{n:03}', 'title': \"Baby's {n}\", 'categories': [['Baby', 'Toys']], 'price': {n}.5}}\n" for n in range(9)
    ]
    (tmp_path / "meta_Baby.json").write_text("".join(lines) + "{'asin': 'B000', 'title': 'again'}\n")
    dataset = load_dataset(tmp_path)
    assert dataset.attributes["item"]["title"].tolist() == [f"Baby's {n}" for n in range(9)]
    assert dataset.attributes["item"]["price"].tolist() == [n + 0.5 for n in range(9)]
    assert "meta_Baby.json: 1 objects that repeat a known item are dropped" in caplog.text


def test_metadata_beside_a_table(tmp_path):
    (tmp_path / "ratings.csv").write_text("user,item,rating\n1,B000,5\n2,B001,4\n")
    write(tmp_path / "meta_Baby.json", [{"asin": f"B00{n}", "title": f"Title {n}"} for n in range(2)])
    write(tmp_path / "item2attributes.json", [{"B000": [1, 2], "B001": [3]}])
    assert load_dataset(tmp_path).attributes["item"]["title"].tolist() == ["Title 0", "Title 1"]


def test_yelp(tmp_path):
    names = {name: tmp_path / f"yelp_academic_dataset_{name}.json" for name in ("review", "tip", "business", "user", "checkin")}
    when = {"date": "2018-07-07 22:09:11"}
    pairs = [{"user_id": f"u{n % 3}", "business_id": f"b{n % 4}"} for n in range(9)]
    write(names["review"], [pair | {"review_id": "r", "stars": 4.0, "useful": 0, "text": "nice food"} | when for pair in pairs])
    write(names["tip"], [{"user_id": "u9", "business_id": "b9", "text": "x"} | when])
    write(
        names["business"],
        [{"business_id": f"b{n}", "name": f"Shop {n}", "attributes": {"x": "y"}, "hours": None} for n in range(4)],
    )
    write(names["user"], [{"user_id": f"u{n}", "name": f"N{n}", "friends": "u1, u2"} for n in range(3)])
    write(names["checkin"], [{"business_id": "b1"} | when])
    dataset = load_dataset(tmp_path)
    assert (dataset.num_users, dataset.num_items, len(dataset.interactions)) == (3, 4, 9)
    assert dataset.attributes["item"]["title"].tolist() == [f"Shop {n}" for n in range(4)]
    assert dataset.attributes["user"]["title"].tolist() == ["N0", "N1", "N2"]
    assert dataset.interactions.time[0] == 1531001351
    assert dataset.interactions.weight[0] == 4.0


def test_other_keys_are_named(tmp_path):
    objects = [{"who": "a", "what": {"id": 1}, "thing": "x"}, {"who": "b", "what": {"id": 2}, "thing": "y"}]
    write(tmp_path / "events.json", objects)
    dataset = load_dataset(tmp_path, user_column="who", item_column="thing")
    assert dataset.vocabularies["item"].ids() == ["x", "y"]
    with pytest.raises(DataError, match=r"events\.json has no user column .* its columns are 'who', 'what', 'thing'"):
        load_dataset(tmp_path / "events.json")


def test_several_files_of_interactions_are_refused(tmp_path):
    write(tmp_path / "Baby.json", AMAZON_2018)
    write(tmp_path / "Toys.json", AMAZON_2018)
    with pytest.raises(DataError, match=r"holds 2 files of interactions \('Baby\.json', 'Toys\.json'\); keep one"):
        load_dataset(tmp_path)
    (tmp_path / "Toys.json").unlink()
    for name in ("meta_a.json", "meta_b.json"):
        write(tmp_path / name, [{"asin": "B000", "title": "t"}])
    with pytest.raises(DataError, match="holds 2 tables of items"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ('{"reviewerID": "a", "asin":', r"reviews\.json line 6 is not a JSON object"),
        ('{"reviewerID": "a", "asin": null, "overall": 3}', r"reviews\.json line 6 has no value in column 'asin'"),
        (
            '{"reviewerID": "a", "asin": "b", "overall": "good", "unixReviewTime": 1472688000}',
            "line 6 has 'good' in column 'overall'",
        ),
    ],
)
def test_a_broken_line_is_named(tmp_path, broken, message):
    lines = [json.dumps(entry) for entry in AMAZON_2018]
    (tmp_path / "reviews.json").write_text("\n".join([*lines[:4], "", broken, *lines[4:]]))
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path / "reviews.json")


def test_a_folder_of_other_json_files_is_refused_with_its_content(tmp_path):
    (tmp_path / "Baby.json").write_text("{\n")
    (tmp_path / "list.json").write_text("[1, 2]")
    with pytest.raises(DataError, match=r"holds no interactions\.csv, .* \(it holds 'Baby\.json', 'list\.json'\)"):
        load_dataset(tmp_path)
