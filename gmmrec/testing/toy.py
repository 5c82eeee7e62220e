"""Toy data with known answers."""

from dataclasses import replace

import pandas as pd
import torch

from gmmrec.data.dataset import Dataset
from gmmrec.data.features import FeatureTable
from gmmrec.data.interactions import Interactions
from gmmrec.data.outfits import Outfits
from gmmrec.data.ragged import RaggedLists
from gmmrec.data.reviews import Reviews
from gmmrec.data.vocabulary import Vocabulary


def checkerboard(num_users: int = 24, num_items: int = 16, *, seed: int = 0) -> tuple[Dataset, torch.Tensor]:
    """Return data in which even users like even items and odd users odd ones; a third of the likes is held out.

    Features ``image`` [I, 6] and ``text`` [I, 4] encode the parity too; the image of item 3 is missing. The result is the data set
    of the known likes and a mask [U, I] of the held-out likes.
    """
    generator = torch.Generator().manual_seed(seed)
    likes = (torch.arange(num_users)[:, None] + torch.arange(num_items)) % 2 == 0
    held_out = torch.rand(num_users, num_items, generator=generator) < 1 / 3
    user, item = torch.nonzero(likes & ~held_out, as_tuple=True)
    parity = (torch.arange(num_items) % 2).float()[:, None]
    mask = torch.ones(num_items, dtype=torch.bool)
    mask[3] = False
    features = {
        "image": FeatureTable("image", torch.cat([parity, 1 - parity, torch.rand(num_items, 4, generator=generator)], 1), mask),
        "text": FeatureTable("text", torch.cat([parity, 1 - parity, torch.rand(num_items, 2, generator=generator)], 1)),
    }
    vocabularies = {
        "user": Vocabulary([f"u{i}" for i in range(num_users)], name="user"),
        "item": Vocabulary(range(num_items), name="item"),
    }
    return Dataset("checkerboard", vocabularies, Interactions(user, item), features), likes & held_out


def rated_checkerboard(num_users: int = 24, num_items: int = 16, *, seed: int = 0) -> tuple[Dataset, torch.Tensor]:
    """Return the checkerboard with ratings and reviews: known likes are rated 5, half of the dislikes are known and rated 1.

    The second of a review's three words encodes the item's parity and whether it is liked; the others are noise. The result is the
    data set of the known interactions and a mask [U, I] of the held-out likes.
    """
    generator = torch.Generator().manual_seed(seed)
    board, held_out = checkerboard(num_users, num_items, seed=seed)
    likes = (torch.arange(num_users)[:, None] + torch.arange(num_items)) % 2 == 0
    known = torch.where(likes, ~held_out, torch.rand(num_users, num_items, generator=generator) < 1 / 2)
    user, item = torch.nonzero(known, as_tuple=True)
    liked = likes[user, item]
    signal = 2 + item % 2 + 2 * liked
    noise = torch.randint(6, 10, (2, len(user)), generator=generator)
    tokens = torch.stack([noise[0], signal, noise[1], torch.zeros_like(item)], dim=1).int()
    words = ("", "<unknown>", "poor", "bad", "good", "great", "a", "b", "c", "d")
    log = Interactions(user, item, weight=1 + 4 * liked.float(), review=torch.arange(len(user)))
    return replace(board, interactions=log, reviews=Reviews(tokens, words)), held_out


def with_outfits(board: Dataset, *, each: int = 4, seed: int = 0) -> Dataset:
    """Return a checkerboard with outfits of items of one parity, for users of that parity, with other such items as histories.

    Items have three categories in turn. The last outfit of every user is in the test part, the second to last in the validation
    part; the log has its own given split.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, histories = [], []
    for user in range(board.num_users):
        liked = torch.arange(user % 2, board.num_items, 2)
        for _ in range(each):
            size = int(torch.randint(2, 5, (), generator=generator))
            drawn = liked[torch.randperm(len(liked), generator=generator)]
            rows.append(drawn[:size])
            histories.append(drawn[size : size + 3])
    number = torch.arange(board.num_users * each)
    part = (number % each - (each - 3)).clamp(min=0)
    kind = torch.arange(board.num_items) % 3
    history = RaggedLists.from_sequences(histories)
    outfits = Outfits(RaggedLists.from_sequences(rows), part, number // each, history, kind)
    items = pd.DataFrame({"category": [f"kind {k}" for k in kind.tolist()]})
    given = torch.rand(len(board.interactions), generator=generator)
    return replace(
        board,
        outfits=outfits,
        attributes={**board.attributes, "item": items},
        given_split=(given > 0.6).long() + (given > 0.8).long(),
    )
