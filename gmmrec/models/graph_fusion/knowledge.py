"""Knowledge encoder: item vectors propagated through a knowledge graph."""

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

    with :math:`\mathbf{L}` the alignment of items with entities and :math:`\mathbf{A}` the edges between entities: with two
    layers, films with a common actor share information, including the actor's. The entity embeddings :math:`\mathbf{E}` are an
    input; the module's only parameters are the maps of their features.

    Args:
        num_layers: Number of layers K.
        feature_dims: Feature width of each of the M modalities of entities.
        dim: Width of items and entities; used only with modalities.

    Shapes:
        - **input:** items ``[I, D]``, entities ``[N, D]``, edges from items to entities, between entities, and back to items; M
          feature tables ``[N, F]`` of unit-length rows, zero where an entity has none
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
        """Return the item vectors that the knowledge graph adds."""
        for read, table in zip(self.read, features, strict=True):
            entities = entities + read(table)
        layer = entities + self.conv((items, entities), *to_entity)
        total = entities.new_zeros(entities.shape)
        for _ in range(self.num_layers):
            layer = self.conv(layer, *between)
            total = total + layer
        output: Tensor = self.conv((total / self.num_layers, items), *to_item)
        return output
