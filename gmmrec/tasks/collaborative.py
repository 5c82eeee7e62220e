"""Collaborative filtering: training pairs of users and items, and rankings of all items per user."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch_geometric.loader import LinkLoader
from torch_geometric.sampler import NegativeSampling

from gmmrec.config import check_choice
from gmmrec.data.interactions import Interactions
from gmmrec.data.ragged import RaggedSets
from gmmrec.data.reviews import training_texts
from gmmrec.data.split import Split
from gmmrec.errors import UsageError
from gmmrec.graph.multimodal import MultimodalGraph
from gmmrec.graph.sampling import Negatives, NeighborSampler, as_graph
from gmmrec.tasks.evaluation_tasks import CandidateEvaluation, EvaluationTask, Mask, RankingEvaluation
from gmmrec.tasks.inputs import BatchConfig, TaskInputs
from gmmrec.tasks.negatives import UniformNegatives, drawable
from gmmrec.tasks.query import Batch, UserQuery
from gmmrec.typing import USER_ITEM


class CollaborativeTask:
    """Training batches and evaluation tasks of one split.

    A pair logged more than once is one training interaction. Users who have all items that negatives are drawn from stay in the
    graph, but not in the batches, with a warning. All tensors are on the CPU.

    Args:
        inputs: Split, sizes, batches and reviews: if given, batches hold the user's review of the positive. Words are numbered
            from training reviews alone, as in the graph.

    Raises:
        UsageError: There is no training interaction.
    """

    monitor: ClassVar[str] = "recall@20"

    def __init__(self, inputs: TaskInputs) -> None:
        split, num_items, config = inputs.split, inputs.num_items, inputs.batches
        if not len(split.train):
            raise UsageError("the training part is empty; expected at least one interaction")
        self.split, self.num_users, self.num_items, self.config = split, inputs.num_users, num_items, config
        self._item_order = inputs.item_order
        self.seen = self._by_user(split.train)
        self._users, self._items = self.seen.groups, self.seen.values
        pool = num_items if config.negatives_from == "all" else self._items
        self.negatives = UniformNegatives(self.seen, pool)
        # in the order of self._users and self._items
        self._text = training_texts(inputs.reviews, split).about(split.train.distinct())
        self._drawable = partial(drawable, self.negatives, names=inputs.users, remedy=inputs.more_negatives)

    @property
    def num_batches(self) -> int:
        """Batches per epoch."""
        return -(-self._examples.numel() // self.config.batch_size)

    @cached_property
    def _examples(self) -> Tensor:
        """Positions of the training interactions in the batches; found when training begins, as only then negatives are drawn."""
        return self.drawable(self._users)

    def drawable(self, user: Tensor) -> Tensor:
        """Return the positions of examples with users ``[n]`` for which negatives can be drawn; see :func:`drawable`."""
        return self._drawable(user)

    def batches(self, graph: MultimodalGraph, generator: torch.Generator) -> Iterator[tuple[MultimodalGraph, Batch[UserQuery]]]:
        """Yield one epoch: every training interaction once, shuffled, with fresh negatives, and the graph to train on.

        Sampled mode yields the same batches from the same generator, with users and items numbered as in their subgraph. Drawing
        neighbours does not advance ``generator``: with all neighbours, in as many hops as a model has layers, training equals that
        on the whole graph.

        Args:
            graph: The graph of this epoch; on the CPU in sampled mode.
            generator: Source of the order, of the negatives and of the neighbours.
        """
        shuffled = self._examples[torch.randperm(self._examples.numel(), generator=generator)]
        order = shuffled.split(self.config.batch_size)
        draw = partial(self.negatives.draw, generator=generator)
        if self.config.sampled:
            found = sampled_batches(graph, (self._users, self._items), order, draw, self.config, fork_generator(generator))
            for index, (part, batch) in zip(order, found, strict=True):
                yield part, replace(batch, text=self._review_text(index))
            return
        for index in order:
            user = self._users[index]
            negative = draw(user, self.config.num_negatives)
            yield graph, Batch(UserQuery(user), self._items[index], negative, text=self._review_text(index))

    def _review_text(self, index: Tensor) -> Tensor | None:
        return None if self._text is None else self._text[index]

    def ranking(self, part: Literal["valid", "test"], mask: Mask = "train") -> RankingEvaluation[UserQuery]:
        """Return the ranking task of one split part: the items of every user with any there, in ascending order of users.

        Items excluded from ranking are not relevant either (an item a user has both in training and in the test part); users
        left with none are dropped.

        Args:
            part: Split part of the relevant items.
            mask: Items of a user that are excluded from ranking.

        Raises:
            UsageError: The part or the mask is unknown, the mask covers the part itself, or no relevant item is left.
        """
        answers, excluded, _ = new_answers(self.split, self.num_users, part, mask)
        relevant = self._by_user(answers)
        user = torch.nonzero(relevant.counts).flatten()
        return RankingEvaluation(UserQuery(user), relevant.take(user), excluded.take(user), mask, self._item_order)

    def evaluation_tasks(self, part: Literal["valid", "test"], mask: Mask = "train") -> Mapping[str, EvaluationTask]:
        """Return the ranking of all items and, for data with impressions, the ranking of the items shown."""
        found: dict[str, EvaluationTask] = {"ranking": self.ranking(part, mask)}
        if self.split.impressions is not None:
            shown = self.split.impressions.take(self.split.impressions.telling(part))
            if len(shown):
                impressions: CandidateEvaluation[UserQuery] = CandidateEvaluation(UserQuery(shown.user), shown.shown, shown.clicked)
                found["impressions"] = impressions
        return found

    def _by_user(self, interactions: Interactions) -> RaggedSets:
        return RaggedSets.from_pairs(interactions.user, interactions.item, self.num_users)


def new_answers(
    split: Split, num_users: int, part: Literal["valid", "test"], mask: Mask
) -> tuple[Interactions, RaggedSets, Tensor]:
    """Return the interactions of one part whose items may be ranked, the excluded items per user, and positions of the former.

    Raises:
        UsageError: The part or the mask is unknown, the mask covers the part itself, or no relevant item is left.
    """
    excluded = known_items(split, num_users, part, mask)
    answers = split.part(part)
    new = ~excluded.contains(answers.user, answers.item)
    if not bool(new.any()):
        raise UsageError(f"the {part} part has no relevant item left: its users have them all in {mask}; use another mask")
    return answers.take(new), excluded, torch.nonzero(new).flatten()


def known_items(split: Split, num_users: int, part: Literal["valid", "test"], mask: Mask) -> RaggedSets:
    """Return the items per user that are excluded from the rankings of one part.

    Raises:
        UsageError: The part or the mask is unknown, or the mask covers the part itself.
    """
    check_choice(("valid", "test"), part=part)
    check_choice(get_args(Mask), mask=mask)
    if part == "valid" and mask == "train+valid":
        raise UsageError("mask 'train+valid' would exclude every relevant item of part 'valid'; use mask 'train'")
    known = {"train": split.past, "train+valid": [*split.past, split.valid], "none": [split.train.take(slice(0, 0))]}[mask]
    user, item = (torch.cat([getattr(log, end) for log in known]) for end in ("user", "item"))
    return RaggedSets.from_pairs(user, item, num_users)


def sampled_batches(
    graph: MultimodalGraph,
    pairs: tuple[Tensor, Tensor],
    order: Sequence[Tensor],
    draw: Negatives,
    config: BatchConfig,
    generator: torch.Generator,
) -> Iterator[tuple[MultimodalGraph, Batch[UserQuery]]]:
    """Yield batches on the sampled neighbourhood of their users and items, with rows of that subgraph.

    Args:
        graph: The graph of this epoch, on the CPU.
        pairs: Users and items ``[E]`` of all training interactions.
        order: Positions of the interactions of each batch.
        draw: Source of the negatives.
        config: Numbers of negatives and neighbours.
        generator: Source of the neighbours.
    """
    loader = LinkLoader(
        graph.data,
        NeighborSampler(graph, config.num_neighbors, generator=generator, negatives=draw),
        edge_label_index=(USER_ITEM, torch.stack(pairs)),
        neg_sampling=NegativeSampling("triplet", amount=config.num_negatives),
        batch_sampler=order,
        generator=generator,  # seeds the loader, which would read the global state otherwise
    )
    for data in loader:
        user, item = data["user"], data["item"]
        yield as_graph(data, graph.schema), Batch(UserQuery(user.src_index), item.dst_pos_index, item.dst_neg_index)


def fork_generator(generator: torch.Generator) -> torch.Generator:
    """Return a generator seeded from the state of another one, whose state does not change."""
    twin = torch.Generator()
    twin.set_state(generator.get_state())
    return torch.Generator().manual_seed(int(torch.randint(2**62, (), generator=twin)))
