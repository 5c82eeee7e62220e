"""Knowledge encoder: what items learn from each other through the facts about them."""

from collections.abc import Sequence

from torch import Tensor, nn

from gmmrec.nn.conv.light import LightConv
from gmmrec.nn.relations import Relation


class KnowledgeEncoder(nn.Module):
    r"""Light propagation from items over entities to items.

    .. math::
        \mathbf{E}^{(0)} = \mathbf{E} + \sum_m \mathbf{F}_m \mathbf{W}_m + \mathbf{L} \mathbf{X}, \qquad
        \mathbf{E}^{(k+1)} = \mathbf{A} \mathbf{E}^{(k)}, \qquad
        \mathbf{Y} = \mathbf{L}^\top \frac{1}{K} \sum_{k=1}^{K} \mathbf{E}^{(k)}

    with :math:`\mathbf{L}` the links from items to entities and :math:`\mathbf{A}` the edges between entities: with two layers,
    films with an actor in common learn from each other, and from what is learned of the actor. Entities have vectors of their own,
    which are given; only the maps of their features are learned in here.

    Args:
        num_layers: K.
        feature_dims: Width of every modality of the entities, M of them.
        dim: Width of items and entities; needed where there are modalities.

    Shapes:
        - **input:** items ``[I, D]``, entities ``[N, D]``, edges from items to entities, between entities, and back to items; M
          tables of features ``[N, F]`` at length 1, whose zeros (who has none) add nothing
        - **output:** ``[I, D]``; zeros for items without an entity
    """

    def __init__(self, num_layers: int = 2, feature_dims: Sequence[int] = (), dim: int = 64) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.conv = LightConv()
        self.read = nn.ModuleList(nn.Linear(width, dim, bias=False) for width in feature_dims)

    def forward(
        self,
        items: Tensor,
        entities: Tensor,
        to_entity: Relation,
        between: Relation,
        to_item: Relation,
        features: Sequence[Tensor] = (),
    ) -> Tensor:
        """What items are to each other by the facts about them."""
        for read, table in zip(self.read, features, strict=True):
            entities = entities + read(table)
        layer = entities + self.conv((items, entities), *to_entity)
        total = entities.new_zeros(entities.shape)
        for _ in range(self.num_layers):
            layer = self.conv(layer, *between)
            total = total + layer
        found: Tensor = self.conv((total / self.num_layers, items), *to_item)
        return found
