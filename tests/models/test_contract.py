from typing import ClassVar

import pytest

from gmmrec.models import MODELS
from gmmrec.models.bert4rec import BERT4Rec
from gmmrec.models.mcptr import MCPTR
from gmmrec.models.mm_rec import MMRec
from gmmrec.models.mmgcn import MMGCN
from gmmrec.models.mml import MML
from gmmrec.models.mmt_net import MMTNet
from gmmrec.models.nova_bert import NOVABERT
from gmmrec.models.nrpa import NRPA
from gmmrec.models.pog import POG
from gmmrec.models.uvcan import UVCAN
from gmmrec.models.vlsnr import VLSNR
from gmmrec.testing.contract import RecommenderContract

RANK_ITEMS = {name: model for name, model in MODELS.items() if model.query_type.target == "item"}
"""Models of other things have a suite of their own: see ``test_mkgformer.py``."""


@pytest.mark.parametrize("model_class", RANK_ITEMS.values(), ids=RANK_ITEMS)
class TestEveryModel(RecommenderContract):
    settings: ClassVar = {
        BERT4Rec: {"dim": 16},  # a Transformer of 64 does not learn at so high a rate
        NOVABERT: {"dim": 16},  # likewise
        VLSNR: {"dim": 16},  # so it is with this
        MMRec: {"dim": 16},  # and with this
        POG: {"dim": 16, "hidden_dim": 16},  # and so with this
        MCPTR: {"neighbors": 24},  # all there are: which of equally near ones are taken depends on the rows
        MMGCN: {"dim": 16},  # at 64 it learns so small a set by heart
        UVCAN: {"dim": 8},  # likewise
        MML: {"dim": 16, "num_layers": 1, "inner_steps": 1, "adapt_steps": 1},  # many tasks for so small a set
        MMTNet: {"dim": 16},  # so does this
        NRPA: {"max_reviews": 30},  # all there are: which of many are read depends on the rows
    }


@pytest.mark.parametrize("model_class", [NOVABERT])
class TestInvasiveNOVABERT(RecommenderContract):
    """Its histories are read by another Transformer."""

    settings: ClassVar = {NOVABERT: {"dim": 16, "invasive": True}}
