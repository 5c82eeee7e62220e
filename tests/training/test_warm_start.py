import logging
import re

import pytest
import torch

import gmmrec
from gmmrec.data.vocabulary import Vocabulary
from gmmrec.graph.multimodal import GraphSchema
from gmmrec.models.lightgcn import LightGCN, LightGCNConfig
from gmmrec.models.marank import MARank, MARankConfig
from gmmrec.models.popularity import Popularity
from gmmrec.testing import checkerboard
from gmmrec.training.warm_start import warm_start

SCHEMA = GraphSchema({"user": 3, "item": 4}, {}, {}, ())
IDS = {"user": Vocabulary(["a", "b", "c"], name="user"), "item": Vocabulary([10, 11, 12, 13])}
KNOWN = {"user": Vocabulary(["c", "x", "a"], name="user"), "item": Vocabulary([13, 12, 11, 10, 9])}


def vectors(dim=2):
    generator = torch.Generator().manual_seed(0)
    return {"user": torch.randn(3, dim, generator=generator), "item": torch.randn(5, dim, generator=generator)}


def test_vectors_are_copied_to_their_ids_bit_for_bit(caplog):
    model, found = LightGCN(SCHEMA, LightGCNConfig(dim=2)), vectors()
    initial = model.users.detach().clone()
    with caplog.at_level(logging.INFO):
        kept = warm_start(model, IDS, found, KNOWN)
    assert kept == {"user": 1, "item": 0}
    assert torch.equal(model.users, torch.stack([found["user"][2], initial[1], found["user"][0]]))
    assert torch.equal(model.items, found["item"][[3, 2, 1, 0]])
    assert model.users.requires_grad
    assert caplog.messages == [
        "init_from: 1 of 3 users keep their initial vectors",
        "init_from: 0 of 4 items keep their initial vectors",
    ]


def test_both_item_tables_are_filled():
    model, found = MARank(SCHEMA, MARankConfig(dim=2)), vectors()
    assert warm_start(model, IDS, found, KNOWN) == {"user": 1, "item": 0}
    assert torch.equal(model.items, found["item"][[3, 2, 1, 0]])
    assert torch.equal(model.context_items, model.items)
    assert model.context_items.data_ptr() != model.items.data_ptr()


SMALL = {"dim": 8, "epochs": 1, "progress": False, "eval": {"bootstrap": 0}}


@pytest.fixture(scope="module")
def freedom(tmp_path_factory):
    return gmmrec.fit(checkerboard()[0], "freedom", out=tmp_path_factory.mktemp("freedom"), **SMALL)


@pytest.mark.parametrize(("name", "settings"), [("bert4rec", {}), ("nova-bert", {}), ("vlsnr", {"ids": True})])
def test_models_of_histories_start_from_item_vectors_of_a_graph_model(freedom, name, settings, tmp_path):
    folder = freedom.save(tmp_path)
    with torch.no_grad():
        items = freedom.model.encode(freedom.graph)["item"]
    assert not torch.allclose(items, freedom.model.items)  # the propagated vectors, not the table
    run = gmmrec.fit(checkerboard()[0], name, init_from=folder, lr=1e-30, **SMALL, **settings)
    assert torch.equal(run.model.items, items)


@pytest.mark.parametrize(("name", "shown"), [("mm-rec", "MMRec"), ("vlsnr", "VLSNR")])
def test_models_without_item_tables_are_refused(freedom, name, shown, tmp_path):
    with pytest.raises(ValueError, match=f"but {shown} has no item table; leave init_from out"):
        gmmrec.fit(checkerboard()[0], name, init_from=freedom.save(tmp_path), **SMALL)


class ItemsAlone(torch.nn.Module):
    """Model that represents users by their histories."""

    def __init__(self):
        super().__init__()
        self.items = torch.nn.Parameter(torch.zeros(4, 2))


def test_a_model_without_a_user_table_needs_no_user_vectors():
    model, found = ItemsAlone(), vectors()
    assert warm_start(model, IDS, {"item": found["item"]}, KNOWN) == {"item": 0}
    assert torch.equal(model.items, found["item"][[3, 2, 1, 0]])


@pytest.mark.parametrize(
    ("model_class", "found", "known", "message"),
    [
        (
            Popularity,
            vectors(),
            KNOWN,
            "init_from fills id tables named users, items, context_items, but Popularity has no item table; leave init_from out",
        ),
        (LightGCN, {"item": vectors()["item"]}, KNOWN, "init_from needs user vectors, but the run has none"),
        (LightGCN, {**vectors(), "user": torch.eye(3).to_sparse_csr()}, KNOWN, "init_from needs user vectors"),
        (LightGCN, vectors(5), KNOWN, "has user vectors of width 5, but those of LightGCN have width 2; give both the same dim"),
        (LightGCN, vectors(), {**KNOWN, "item": Vocabulary(list("wxyz"))}, "the run of init_from knows none of the 4 item ids"),
        (LightGCN, vectors(), {**KNOWN, "item": Vocabulary(range(5))}, "the run of init_from knows none of the 4 item ids"),
    ],
    ids=["no table", "no vectors", "sparse", "dim", "other kind of ids", "other ids"],
)
def test_mismatched_vectors_are_refused_and_nothing_is_written(model_class, found, known, message):
    model = model_class(SCHEMA, model_class.config_class(**({"dim": 2} if model_class is LightGCN else {})))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    with pytest.raises(ValueError, match=re.escape(message)):
        warm_start(model, IDS, found, known)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())
