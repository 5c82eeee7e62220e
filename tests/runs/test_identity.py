"""Everything that the numbers of a run depend on counts; the rest is one short list."""

from dataclasses import MISSING, fields, replace
from typing import get_type_hints

import pandas as pd
import pytest
import torch

import gmmrec
from gmmrec.config import ON_RESUME
from gmmrec.data.features import FeatureTable
from gmmrec.data.outfits import Outfits
from gmmrec.data.reviews import Reviews
from gmmrec.data.split import SplitConfig, split_dataset
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.models import MODELS
from gmmrec.runs.config import RunConfig, TopConfig, read_config, sections_of
from gmmrec.runs.identity import differences, digest_of, identify, settings_that_count
from gmmrec.testing import checkerboard, circle, rated_checkerboard, with_outfits

MAY_CHANGE = {
    "train.epochs",  # unless the schedule depends on it
    "train.patience",
    "train.min_delta",
    "train.checkpoint_every",
    "train.accelerator",
    "train.progress",
    "data.path",
    "eval.metrics",
    "eval.ks",
    "eval.bootstrap",
    "eval.num_sampled",
    "eval.sampled_by",
    "eval.clip_ratings",  # unless the monitor is an error of ratings
}
"""The whole list of what may change on resuming."""


def section_fields():
    """Every field of every section, of the run as a whole, and of every model."""
    for name, section in sections_of(MODELS["lightgcn"]).items():
        if name != "model":
            yield from ((name, section, each) for each in fields(section))
    for model_class in MODELS.values():
        yield from (("model", model_class, each) for each in fields(model_class.config_class))


def changed(value, hint):
    """Another value of the same kind; checks of the section are passed by, since only the comparison matters."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, tuple):
        return (*value, *value[:1], "more")
    if isinstance(value, str):
        return f"{value} other"
    return 7 if "int" in str(hint) or "float" in str(hint) else "other"


def with_field(config, name, field, hint):
    """The settings of a run with one field changed."""
    owner = config if name == "run" else getattr(config, name)
    value = changed(getattr(owner, field.name), hint)
    if name == "run":
        return replace(config, **{field.name: value})
    altered = object.__new__(type(owner))
    altered.__dict__.update({**vars(owner), field.name: value})
    return replace(config, **{name: altered})


@pytest.mark.parametrize(
    ("name", "owner", "field"), list(section_fields()), ids=lambda each: getattr(each, "name", getattr(each, "__name__", str(each)))
)
def test_every_setting_counts_unless_it_is_on_the_list(name, owner, field):
    model_class = owner if name == "model" else MODELS["lightgcn"]
    section = model_class.config_class if name == "model" else owner
    needed = {each.name for each in fields(section) if each.default is MISSING and each.default_factory is MISSING}
    assert not needed  # every model runs with its defaults
    config = read_config(model_class)
    other = with_field(config, name, field, get_type_hints(section)[field.name])
    before, after = settings_that_count(config), settings_that_count(other)
    full = field.name if section is TopConfig else f"{name}.{field.name}"
    found = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert found == (set() if full in MAY_CHANGE else {full})


def test_what_may_change_is_declared_beside_the_settings():
    declared = {f"{name}.{field.name}" for name, _, field in section_fields() if name != "model" and ON_RESUME in field.metadata}
    assert declared == {*MAY_CHANGE, "eval.mask"}


def settings(**sections):
    return settings_that_count(read_config("lightgcn", sections))


def test_settings_that_count_only_where_they_are_read():
    cosine = {"schedule": "cosine"}
    assert settings(train={**cosine, "epochs": 5}) != settings(train={**cosine, "epochs": 6})
    assert settings(train={"epochs": 5}) == settings(train={"epochs": 6})
    assert settings(eval={"mask": "train+valid"}) == settings(eval={"mask": "train"})  # the same on the validation part
    assert settings(eval={"mask": "none"}) != settings(eval={"mask": "train"})
    for monitor, counts in (("recall@20", False), ("rmse", True), ("rating/mae", True)):
        first, second = (settings(eval={"clip_ratings": clip}, monitor=monitor) for clip in (True, False))
        assert (first != second) is counts


def identity(dataset, **kinds):
    dataset = replace(dataset, **kinds)
    split = split_dataset(dataset, SplitConfig("random"), torch.Generator().manual_seed(0))
    return identify(read_config("lightgcn"), dataset, split)


@pytest.fixture(scope="module")
def whole():
    """A data set with everything that a data set can have."""
    board, _ = checkerboard(12, 10)
    rated, _ = rated_checkerboard(12, 10)
    with_sets, triples = with_outfits(board), circle(12)
    log = board.interactions
    reviews = Reviews(torch.ones(3, 2, dtype=torch.int32), ("", "<unknown>", "good"))
    assert rated.reviews is not None
    return replace(
        board,
        interactions=replace(log, review=torch.zeros(len(log), dtype=torch.long)),
        features={"image": FeatureTable("image", torch.rand(10, 3, generator=torch.Generator().manual_seed(1)))},
        attributes={"item": pd.DataFrame({"title": [f"film {i}" for i in range(10)]})},
        reviews=reviews,
        outfits=with_sets.outfits,
        triples=replace(triples.triples, entity=None),
        vocabularies={**board.vocabularies, **{k: v for k, v in triples.vocabularies.items() if k in ("entity", "relation")}},
    )


def renamed(vocabulary, name):
    return Vocabulary([f"new {i}" for i in range(len(vocabulary))], name=name)


def test_the_content_of_all_data_counts(whole):
    first = identity(whole)
    assert first == identity(whole)
    assert differences(first, identity(whole)) == []
    log, outfits, triples = whole.interactions, whole.outfits, whole.triples
    order = torch.arange(len(log)).flip(0)
    values = whole.features["image"].values
    assert isinstance(outfits, Outfits)
    cases = {
        "user ids": {"vocabularies": {**whole.vocabularies, "user": renamed(whole.vocabularies["user"], "user")}},
        "relation ids": {"vocabularies": {**whole.vocabularies, "relation": renamed(whole.vocabularies["relation"], "relation")}},
        "item attributes": {"attributes": {"item": pd.DataFrame({"title": ["NA"] * 10})}},
        "train interactions": {"interactions": log.take(order)},
        "item features 'image'": {"features": {"image": FeatureTable("image", values + 1e-7)}},
        "outfits": {"outfits": replace(outfits, part=outfits.part.roll(1))},
        "triples": {"triples": replace(triples, head=triples.head.roll(1))},
        "reviews": {"reviews": Reviews(whole.reviews.tokens, ("", "<unknown>", "bad"))},
    }
    for name, kinds in cases.items():
        other = identity(whole, **kinds)
        assert f"the {name} differ" in differences(first, other)
        assert digest_of(other) != digest_of(first)
    assert "the reviews are gone" in differences(first, identity(whole, reviews=None, interactions=replace(log, review=None)))
    assert "the reviews are new" in differences(identity(whole, reviews=None, interactions=replace(log, review=None)), first)


def test_only_one_part_of_the_split_differs_where_only_one_does(whole):
    config, log = read_config("lightgcn"), whole.interactions
    split = split_dataset(whole, SplitConfig("random"), torch.Generator().manual_seed(0))
    weights = torch.ones(len(log))
    for part in ("train", "valid", "test"):
        rows = getattr(split, part)
        other = replace(split, **{part: replace(rows, weight=weights[: len(rows)])})
        assert differences(identify(config, whole, split), identify(config, whole, other)) == [f"the {part} interactions differ"]


def test_versions_of_the_numbers_are_compared(whole):
    first = identity(whole)
    (found,) = differences(first, {**first, "numbers": 99})
    assert found == f"version {first['numbers']} of the training wrote it, and this is version 99"


def test_identities_survive_a_file(whole, tmp_path):
    out = tmp_path / "run"
    gmmrec.fit(replace(whole, triples=None, outfits=None), "popularity", out=out, eval={"bootstrap": 0})
    gmmrec.fit(replace(whole, triples=None, outfits=None), "popularity", out=out, eval={"bootstrap": 5}, overwrite=True)
    assert isinstance(gmmrec.load(out).config, RunConfig)
