import re

import pandas as pd
import pytest
import torch

from gmmrec.data.filter import drop_duplicates, k_core, min_weight
from gmmrec.data.interactions import Interactions
from gmmrec.data.load import load_dataset
from gmmrec.data.reviews import Reviews, TrainingTexts, read_reviews
from gmmrec.data.split import Split, SplitConfig, split_dataset
from gmmrec.data.write import write_folder
from gmmrec.runs.folder import load_split, save_split
from gmmrec.runs.recipe import fit

TEXTS = ["Good film, GOOD actors", None, "a bad film", "", "Isn't it a good_film?", "bad bad bad bad bad"]


def frame():
    return pd.DataFrame(
        {
            "user": ["a", "a", "b", "b", "c", "a"],
            "item": ["x", "y", "x", "y", "x", "x"],
            "rating": [5, 3, 1, 2, 4, 1],
            "timestamp": [6, 2, 3, 4, 5, 1],
            "reviewText": TEXTS,
        }
    )


def review_words(dataset, row):
    """Return the words of one interaction's review."""
    review = int(dataset.interactions.review[row])
    return None if review < 0 else [dataset.reviews.words[i] for i in dataset.reviews.tokens[review] if i > 0]


def test_texts_become_the_ids_of_their_first_words():
    reviews, rows = read_reviews(TEXTS, 5)
    assert rows.tolist() == [0, -1, 1, -1, 2, 3]
    # bad 6 times, good 3 (good_film is two words), film 3, a 2; actors, isn't and it once
    assert reviews.words == ("", "<unknown>", "bad", "good", "film", "a")
    assert reviews.tokens.tolist() == [[3, 4, 3, 1, 0], [5, 2, 4, 0, 0], [1, 1, 5, 3, 4], [2, 2, 2, 2, 2]]
    assert reviews.num_words == 6


def test_texts_without_words_are_not_reviews():
    reviews, rows = read_reviews([None, "", "?!"], 5)
    assert reviews is None
    assert rows.tolist() == [-1, -1, -1]


def test_known_words_come_from_given_reviews_alone():
    reviews, _ = read_reviews(TEXTS, 5)
    known = reviews.restrict_to_known_words(torch.tensor([1, -1]), least=1)  # a bad film
    assert known.tokens.tolist() == [[1, 4, 1, 1, 0], [5, 2, 4, 0, 0], [1, 1, 5, 1, 4], [2, 2, 2, 2, 2]]
    twice = reviews.restrict_to_known_words(torch.tensor([0, 1, -1]))  # good good, film film
    assert twice.tokens.tolist() == [[3, 4, 3, 1, 0], [1, 1, 4, 0, 0], [1, 1, 1, 3, 4], [1, 1, 1, 1, 1]]
    assert known.num_words == reviews.num_words
    assert known.at(torch.tensor([-1, 1])).tolist() == [[0, 0, 0, 0, 0], [5, 2, 4, 0, 0]]


@pytest.mark.parametrize("tokens", [torch.zeros(2, 3), torch.full((1, 1), 3, dtype=torch.int32)])
def test_invalid_token_tables_are_refused(tokens):
    with pytest.raises(ValueError, match=r"^tokens must"):
        Reviews(tokens, ("", "<unknown>", "a"))


def test_a_column_of_texts_is_read_with_its_interactions():
    dataset = load_dataset(frame(), duplicates="keep", review_words=4)
    assert dataset.reviews.tokens.shape == (4, 4)
    assert review_words(dataset, 2) == ["a", "bad", "film"]
    assert review_words(dataset, 1) is None
    assert load_dataset(frame(), duplicates="keep", review_column="none").reviews is None
    with pytest.raises(ValueError, match=re.escape("has no column 'txt'")):
        load_dataset(frame(), review_column="txt")


def test_a_folder_and_a_file_keep_reviews(tmp_path):
    frame().to_csv(tmp_path / "reviews.csv", index=False)
    for path in (tmp_path, tmp_path / "reviews.csv"):
        assert review_words(load_dataset(path, duplicates="keep"), 2) == ["a", "bad", "film"]


def test_a_named_column_wins(tmp_path):
    table = frame().assign(text="other")
    dataset = load_dataset(table, duplicates="keep", review_column="text")
    assert review_words(dataset, 1) == ["other"]


def test_filters_keep_reviews_aligned():
    dataset = load_dataset(frame(), duplicates="keep")
    first = drop_duplicates(dataset, "first")  # drops the later (a, x), which comes first in the table
    assert [review_words(first, row) for row in range(len(first.interactions))].count(["bad"] * 5) == 1
    assert len(first.interactions) == 5
    liked = min_weight(dataset, 3)
    assert [review_words(liked, row) for row in range(3)] == [review_words(dataset, row) for row in (0, 1, 4)]
    core = k_core(drop_duplicates(dataset, "last"), 2)  # drops c
    assert core.num_users == 2
    assert [review_words(core, row) for row in range(4)] == [review_words(dataset, row) for row in (0, 1, 2, 3)]


def test_rows_without_rating_are_dropped_with_their_reviews():
    table = frame()
    table["rating"] = table["rating"].astype(float).where(table.index != 0)
    dataset = load_dataset(table, duplicates="keep")
    assert review_words(dataset, 1) == ["a", "bad", "film"]
    assert len(dataset.interactions) == 5


def test_splits_keep_reviews(tmp_path):
    dataset = load_dataset(pd.concat([frame()] * 2), duplicates="keep")
    split = split_dataset(dataset, SplitConfig("by_time", 0.2, 0.2))
    assert isinstance(split, Split)
    save_split(split, tmp_path / "split.safetensors")
    again = load_split(tmp_path / "split.safetensors")
    for part in ("train", "valid", "test"):
        assert torch.equal(getattr(again, part).review, getattr(split, part).review)
    texts = dataset.reviews.at(split.test.review)
    position = torch.nonzero(dataset.interactions.order >= split.test.order.min()).flatten()
    assert torch.equal(texts, dataset.reviews.at(dataset.interactions.review[position]))


def test_writers_warn_that_reviews_are_lost(tmp_path, caplog):
    write_folder(load_dataset(frame()), tmp_path / "out")
    assert "reviews are not written" in caplog.text
    assert load_dataset(tmp_path / "out").reviews is None


def test_words_are_numbered_from_training_texts_alone():
    log = Interactions(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 0]), review=torch.tensor([0, 1, 2]))
    train = log.take(torch.tensor([0, 1]))
    found = []
    for held_out in ("nothing new", "zebra zebra film good good good good good good good"):
        reviews, _ = read_reviews(["good film film", "a good cast a", held_out], 10)
        texts = TrainingTexts(reviews, train)
        assert texts.words == ("", "<unknown>", "a", "film", "good")  # all twice, by their letters
        found.append(texts.about(train)[:, :4].tolist())
    assert found[0] == found[1] == [[4, 3, 3, 0], [2, 4, 1, 2]]


def test_numbering_by_training_texts_is_idempotent_and_counts_outfits():
    reviews, _ = read_reviews(["good film", "dress dress", "good dress"], 3)
    train = Interactions(torch.tensor([0]), torch.tensor([0]), review=torch.tensor([0]))
    texts = TrainingTexts(reviews, train, reviews.tokens[1:])  # two texts about outfits
    assert texts.words == ("", "<unknown>", "dress", "good")
    again = TrainingTexts(texts.reviews, train, texts.numbered(reviews.tokens[1:]))
    assert again.words == texts.words
    assert torch.equal(again.reviews.tokens, texts.reviews.tokens)
    assert TrainingTexts(None, train).words == ()


@pytest.mark.parametrize("model", ["nrpa", "vecf"])
def test_a_held_out_review_changes_no_weight(model):
    table = pd.concat([frame().assign(user=frame().user + str(copy)) for copy in range(4)], ignore_index=True)
    table["timestamp"] = range(len(table))
    table["split"] = ["train"] * 16 + ["valid"] * 4 + ["test"] * 4
    other = table.copy()
    other.loc[16:, "reviewText"] = "zebra zebra actors good good good good"
    regions = {"regions": (["x", "y", "z"], torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0)))}
    datasets = [load_dataset(found, features=regions) for found in (table, other)]
    one, two = (fit(found, model, dim=4, epochs=2, progress=False).model.state_dict() for found in datasets)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
