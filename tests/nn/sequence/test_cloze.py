import math

import pytest
import torch
from torch.nn import functional as F

from gmmrec.nn.sequence.cloze import ClozeMasker, TiedHead
from tests.nn.fusion.checks import assert_same, layer_norm, random

L = 12
LENGTHS = torch.arange(L + 1)
MASK = torch.arange(L) >= L - LENGTHS[:, None]


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.6, 0.7, 1.0])
@pytest.mark.parametrize("most", [1, 3, 20])
def test_number_of_hidden_items_equals_the_formula(share, most) -> None:
    hidden = ClozeMasker(share, most)(MASK)
    expected = [min(max(math.floor(share * n + 0.5), 1), most) if n else 0 for n in range(L + 1)]
    assert hidden.sum(1).tolist() == expected
    assert not bool((hidden & ~MASK).any())


def test_every_position_is_equally_likely() -> None:
    torch.manual_seed(0)
    mask = (torch.arange(L) >= 2).expand(20_000, L)
    shares = ClozeMasker(0.3, 20)(mask).float().mean(0)
    torch.testing.assert_close(shares, torch.tensor([0.0] * 2 + [0.3] * 10), rtol=0, atol=0.02)


def test_only_the_last_item_is_hidden_with_the_given_probability() -> None:
    torch.manual_seed(0)
    mask = torch.ones(20_000, 10, dtype=torch.bool)
    hidden = ClozeMasker(0.5, 20, last=0.25)(mask)
    alone = hidden.sum(1) == 1
    assert float(alone.float().mean()) == pytest.approx(0.25, abs=0.01)
    assert bool(hidden[alone, -1].all())
    assert bool((hidden.sum(1)[~alone] == 5).all())


def test_draws_follow_torchs_seed() -> None:
    torch.manual_seed(3)
    first = ClozeMasker(0.3, 20, last=0.5)(MASK)
    second = ClozeMasker(0.3, 20, last=0.5)(MASK)
    torch.manual_seed(3)
    assert torch.equal(ClozeMasker(0.3, 20, last=0.5)(MASK), first)
    assert not torch.equal(first, second)


def test_head_equals_the_formula() -> None:
    torch.manual_seed(0)
    head, states, items, bias = TiedHead(4).double(), random(7, 4).requires_grad_(), random(5, 4, seed=1), random(5, seed=2)
    answer = torch.tensor([0, 4, 4, 2, 1, 0, 3])
    items.requires_grad_()
    outputs, loss = [], 0.0
    for h, target in zip(states, answer, strict=True):
        inner = head.project.weight @ h + head.project.bias
        outputs.append(layer_norm(inner * (1 + torch.erf(inner / math.sqrt(2))) / 2, head.norm))
        logits = torch.stack([outputs[-1] @ item for item in items]) + bias
        loss = loss - (logits[target] - logits.exp().sum().log()) / 7
    assert_same(head(states), torch.stack(outputs), head, states)
    assert_same(head.loss(states, items, bias, answer), loss, head, states, items)
    torch.testing.assert_close(head.loss(states, items, bias, answer), F.cross_entropy(head(states) @ items.t() + bias, answer))
