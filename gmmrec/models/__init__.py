"""MODELS: all models of the package by command-line name; classes are imported on first lookup."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from gmmrec.recommender import AnyRecommender


class Card(NamedTuple):
    """One row of the table of models."""

    path: str
    """Module and class, as ``module:Class``."""
    paper: str
    """Citation."""
    query: str
    """Name of the model's query type."""
    modalities: str
    """Modalities the model requires."""
    fidelity: str
    """Fidelity to the paper, in a few words."""


CARDS: dict[str, Card] = {
    "bert4rec": Card(
        "gmmrec.models.bert4rec:BERT4Rec",
        "Sun et al., CIKM 2019",
        "HistoryQuery",
        "none used",
        "released code; positions counted from the newest item, masks redrawn every epoch",
    ),
    "bias": Card(
        "gmmrec.models.bias:Bias",
        "Koren, Bell & Volinsky, Computer 2009, equation 3",
        "RatingQuery",
        "none used",
        "exact, closed form",
    ),
    "bm3": Card(
        "gmmrec.models.bm3:BM3",
        "Zhou et al., WWW 2023",
        "UserQuery",
        "one or more",
        "matches the released code; any modalities, some may be missing",
    ),
    "cmbf": Card(
        "gmmrec.models.cmbf:CMBF",
        "Chen et al., Sensors 2021",
        "UserQuery",
        "one or more",
        "reconstruction: layers as described for an industrial implementation",
    ),
    "ease": Card(
        "gmmrec.models.ease:EASE",
        "Steck, WWW 2019",
        "UserQuery",
        "none used",
        "exact",
    ),
    "ease-features": Card(
        "gmmrec.models.ease_features:EASEFeatures",
        "CEASE and Add-EASE: Jeunen et al., RecSys 2020; L3AE; k-NN",
        "UserQuery",
        "one or more",
        "CEASE and Add-EASE exact; L3AE reconstructed",
    ),
    "freedom": Card(
        "gmmrec.models.freedom:FREEDOM",
        "Zhou & Shen, ACM MM 2023",
        "UserQuery",
        "one or more",
        "exact, except that raw features stay fixed; any modalities",
    ),
    "graph-filter": Card(
        "gmmrec.models.graph_filter:GraphFilter",
        "linear filter of GF-CF: Shen et al., CIKM 2021",
        "UserQuery",
        "optional",
        "exact by default; hops, power and features are additions",
    ),
    "graph-fusion": Card(
        "gmmrec.models.graph_fusion:GraphFusion",
        "no paper: combines parts of the other models",
        "UserQuery",
        "optional",
        "same scores as the published models it contains",
    ),
    "hcgcn": Card(
        "gmmrec.models.hcgcn:HCGCN",
        "Mu et al., ACM MM 2022",
        "UserQuery",
        "one or more",
        "reconstruction (version 1) from the abstract; no full text, no code",
    ),
    "irn": Card(
        "gmmrec.models.irn:IRN",
        "Lv et al., IEEE Access 2019",
        "UserQuery",
        "one or more",
        "reconstruction from the abstract; no equations, no code",
    ),
    "lattice": Card(
        "gmmrec.models.lattice:LATTICE",
        "Zhang et al., ACM MM 2021",
        "UserQuery",
        "one or more",
        "released code, except that raw features stay fixed",
    ),
    "lightgcn": Card(
        "gmmrec.models.lightgcn:LightGCN",
        "He et al., SIGIR 2020",
        "UserQuery",
        "none used",
        "exact, except that an epoch visits every interaction once",
    ),
    "marank": Card(
        "gmmrec.models.marank:MARank",
        "Yu et al., AAAI 2019",
        "HistoryQuery",
        "none used",
        "layers of the released code; one optimizer instead of two",
    ),
    "mario": Card(
        "gmmrec.models.mario:MARIO",
        "Kim et al., CIKM 2022",
        "UserQuery",
        "one or more",
        "reconstruction; no code, equations from summaries",
    ),
    "mcptr": Card(
        "gmmrec.models.mcptr:MCPTR",
        "Liu et al., ICMR 2022",
        "UserQuery",
        "one or more",
        "reconstruction: components and losses from summaries, equations ours",
    ),
    "mgat": Card(
        "gmmrec.models.mgat:MGAT",
        "Tao et al., IPM 2020",
        "UserQuery",
        "one or more",
        "equations of the released code; widths and loss differ",
    ),
    "mgcn": Card(
        "gmmrec.models.mgcn:MGCN",
        "Yu et al., ACM MM 2023",
        "UserQuery",
        "one or more",
        "released code, except that raw features stay fixed; any modalities",
    ),
    "mkgformer": Card(
        "gmmrec.models.mkgformer:MKGformer",
        "Chen et al., SIGIR 2022",
        "LinkPredictionQuery",
        "optional, of entities",
        "fusion of the released code; features replace BERT and CLIP",
    ),
    "mm-rec": Card(
        "gmmrec.models.mm_rec:MMRec",
        "Wu et al., SIGIR 2022",
        "HistoryQuery",
        "one or more",
        "equations of the released code, masks fixed; no pre-trained ViLBERT",
    ),
    "mmgcn": Card(
        "gmmrec.models.mmgcn:MMGCN",
        "Wei et al., ACM MM 2019",
        "UserQuery",
        "one or more",
        "follows the paper; bugs of the released code fixed",
    ),
    "mml": Card(
        "gmmrec.models.mml:MML",
        "Pan et al., CIKM 2022",
        "HistoryQuery",
        "one or more",
        "equations of the released code; three stages or one, only fast parts adapt",
    ),
    "mmt-net": Card(
        "gmmrec.models.mmt_net:MMTNet",
        "Krishnan et al., SIGIR 2020",
        "ContextQuery",
        "optional",
        "reconstruction: module roles from summaries, equations ours",
    ),
    "nor": Card(
        "gmmrec.models.nor:NOR",
        "Lin et al., TKDE 2019",
        "OutfitQuery",
        "one or more; comments",
        "reconstruction: components from abstract and figures, equations ours",
    ),
    "nova-bert": Card(
        "gmmrec.models.nova_bert:NOVABERT",
        "Liu et al., AAAI 2021",
        "HistoryQuery",
        "optional",
        "attention and fusion from a report on the paper; no code, the rest reconstructed",
    ),
    "nrpa": Card(
        "gmmrec.models.nrpa:NRPA",
        "Liu et al., SIGIR 2019",
        "RatingQuery",
        "none used; reviews",
        "reconstruction: layers of two re-implementations, biases added",
    ),
    "pog": Card(
        "gmmrec.models.pog:POG",
        "Chen et al., KDD 2019",
        "OutfitQuery",
        "optional",
        "reconstruction: stages and networks of the paper, layers ours",
    ),
    "popularity": Card(
        "gmmrec.models.popularity:Popularity",
        "no paper: counts training interactions",
        "UserQuery",
        "none used",
        "exact",
    ),
    "saers": Card(
        "gmmrec.models.saers:SAERS",
        "Hou et al., IJCAI 2019",
        "UserQuery",
        "one or more",
        "reconstruction from the abstract; regions by SEN on frozen features",
    ),
    "uvcan": Card(
        "gmmrec.models.uvcan:UVCAN",
        "Liu et al., WWW 2019",
        "UserQuery",
        "one or more",
        "reconstruction: inputs and direction from abstract and surveys",
    ),
    "vbpr": Card(
        "gmmrec.models.vbpr:VBPR",
        "He & McAuley, AAAI 2016",
        "UserQuery",
        "one or more",
        "exact for one modality; several or missing modalities are additions",
    ),
    "vecf": Card(
        "gmmrec.models.vecf:VECF",
        "Chen et al., SIGIR 2019",
        "UserQuery",
        "one or more",
        "equations of the released code; values normalised, not scaled",
    ),
    "vlsnr": Card(
        "gmmrec.models.vlsnr:VLSNR",
        "Han et al., arXiv 2210.02946",
        "HistoryQuery",
        "one or more",
        "reconstruction: blocks from the abstract, equations ours",
    ),
}


class ModelTable(Mapping[str, "type[AnyRecommender]"]):
    """Model classes by name. Listing names imports nothing; looking up a class imports its module, and with it torch."""

    def __getitem__(self, name: str) -> "type[AnyRecommender]":
        module, _, cls = CARDS[name].path.partition(":")
        model_class: type[AnyRecommender] = getattr(import_module(module), cls)
        return model_class

    def __iter__(self) -> Iterator[str]:
        return iter(CARDS)

    def __len__(self) -> int:
        return len(CARDS)

    def __contains__(self, name: object) -> bool:
        return name in CARDS

    def name_of(self, model_class: type) -> str | None:
        """Return the name of a class in the table, or None for any other class, without importing other models."""
        for name, card in CARDS.items():
            module, _, cls = card.path.partition(":")
            if model_class.__name__ == cls and f"{model_class.__module__}.".startswith(f"{module}."):
                return name if self[name] is model_class else None
        return None


MODELS = ModelTable()
GROUP = "gmmrec.models"
"""Entry points of this group name model classes of other packages."""


def installed_models() -> list[EntryPoint]:
    """Return the models that installed packages declare, by name; nothing of theirs is imported, and none takes a name of ours."""
    return sorted((point for point in entry_points(group=GROUP) if point.name not in CARDS), key=lambda point: point.name)


def describe_models() -> list[dict[str, str]]:
    """Return one row per model: name, paper, query, modalities, fidelity."""
    return [
        {"name": name, "paper": card.paper, "query": card.query, "modalities": card.modalities, "fidelity": card.fidelity}
        for name, card in CARDS.items()
    ]


def describe_installed() -> list[dict[str, str]]:
    """Return a row like those of :func:`describe_models` for each model that an installed package declares."""
    found = []
    for point in installed_models():
        package = "a package" if point.dist is None else f"{point.dist.name} {point.dist.version}"
        found.append({"name": point.name, "paper": f"in {package}: {point.value}", **dict.fromkeys(UNTOLD, "not told")})
    return found


UNTOLD = ("query", "modalities", "fidelity")
"""Columns that are known only once a class is imported."""
