"""MODELS: every model of the package, by the name used on the command line; a class is imported when it is looked up."""

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
    """Name of the query type that the model answers."""
    modalities: str
    """Modalities that the model needs."""
    fidelity: str
    """Agreement with the paper, in a few words."""


CARDS: dict[str, Card] = {
    "bert4rec": Card(
        "gmmrec.models.bert4rec:BERT4Rec",
        "Sun et al., CIKM 2019",
        "HistoryQuery",
        "none used",
        "the released code; positions count from the newest, masks are drawn anew",
    ),
    "bias": Card(
        "gmmrec.models.bias:Bias",
        "Koren, Bell & Volinsky, Computer 2009, equation 3",
        "RatingQuery",
        "none used",
        "exact, in closed form",
    ),
    "bm3": Card(
        "gmmrec.models.bm3:BM3",
        "Zhou et al., WWW 2023",
        "UserQuery",
        "one or more",
        "exact to the released code; any modalities, items without some",
    ),
    "cmbf": Card(
        "gmmrec.models.cmbf:CMBF",
        "Chen et al., Sensors 2021",
        "UserQuery",
        "one or more",
        "reconstruction: layers of an industrial implementation, in words",
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
        "CEASE, Add-EASE exact; L3AE reconstructed",
    ),
    "freedom": Card(
        "gmmrec.models.freedom:FREEDOM",
        "Zhou & Shen, ACM MM 2023",
        "UserQuery",
        "one or more",
        "exact, but raw features are not trained; any modalities",
    ),
    "graph-filter": Card(
        "gmmrec.models.graph_filter:GraphFilter",
        "linear filter of GF-CF: Shen et al., CIKM 2021",
        "UserQuery",
        "optional",
        "exact by default; hops, power, features added",
    ),
    "graph-fusion": Card(
        "gmmrec.models.graph_fusion:GraphFusion",
        "no paper: parts of the others, combined",
        "UserQuery",
        "optional",
        "models of papers that are points of it score alike",
    ),
    "hcgcn": Card(
        "gmmrec.models.hcgcn:HCGCN",
        "Mu et al., ACM MM 2022",
        "UserQuery",
        "one or more",
        "reconstruction v1 from the abstract; no text, no code",
    ),
    "irn": Card(
        "gmmrec.models.irn:IRN",
        "Lv et al., IEEE Access 2019",
        "UserQuery",
        "one or more",
        "reconstruction from the abstract: no equations, no code",
    ),
    "lattice": Card(
        "gmmrec.models.lattice:LATTICE",
        "Zhang et al., ACM MM 2021",
        "UserQuery",
        "one or more",
        "the released code, but raw features are not trained",
    ),
    "lightgcn": Card(
        "gmmrec.models.lightgcn:LightGCN",
        "He et al., SIGIR 2020",
        "UserQuery",
        "none used",
        "exact, but every interaction is trained on once an epoch",
    ),
    "marank": Card(
        "gmmrec.models.marank:MARank",
        "Yu et al., AAAI 2019",
        "HistoryQuery",
        "none used",
        "layers of the released code; its two optimizers are one",
    ),
    "mario": Card(
        "gmmrec.models.mario:MARIO",
        "Kim et al., CIKM 2022",
        "UserQuery",
        "one or more",
        "reconstruction: no code, equations from summaries",
    ),
    "mcptr": Card(
        "gmmrec.models.mcptr:MCPTR",
        "Liu et al., ICMR 2022",
        "UserQuery",
        "one or more",
        "reconstruction: parts and losses from summaries, their form is ours",
    ),
    "mgat": Card(
        "gmmrec.models.mgat:MGAT",
        "Tao et al., IPM 2020",
        "UserQuery",
        "one or more",
        "equations of the released code; widths and loss deviate",
    ),
    "mgcn": Card(
        "gmmrec.models.mgcn:MGCN",
        "Yu et al., ACM MM 2023",
        "UserQuery",
        "one or more",
        "the released code, but raw features are not trained; any modalities",
    ),
    "mkgformer": Card(
        "gmmrec.models.mkgformer:MKGformer",
        "Chen et al., SIGIR 2022",
        "LinkPredictionQuery",
        "of entities; optional",
        "fusion of the released code; features stand in for BERT and CLIP",
    ),
    "mm-rec": Card(
        "gmmrec.models.mm_rec:MMRec",
        "Wu et al., SIGIR 2022",
        "HistoryQuery",
        "one or more",
        "equations of the released code, masks mended; no pre-trained ViLBERT inside",
    ),
    "mmgcn": Card(
        "gmmrec.models.mmgcn:MMGCN",
        "Wei et al., ACM MM 2019",
        "UserQuery",
        "one or more",
        "the paper; the bugs of the released code are mended",
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
        "reconstruction: module roles from summaries, the equations are ours",
    ),
    "nor": Card(
        "gmmrec.models.nor:NOR",
        "Lin et al., TKDE 2019",
        "OutfitQuery",
        "one or more; comments",
        "reconstruction: parts from abstract and figures, the formulas are ours",
    ),
    "nova-bert": Card(
        "gmmrec.models.nova_bert:NOVABERT",
        "Liu et al., AAAI 2021",
        "HistoryQuery",
        "optional",
        "attention and fusions from a report of the paper; no code, the rest reconstructed",
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
        "reconstruction: stages and networks of the paper, layers are ours",
    ),
    "popularity": Card(
        "gmmrec.models.popularity:Popularity",
        "no paper: training interactions counted",
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
        "exact for one modality; more, and items without, are additions",
    ),
    "vecf": Card(
        "gmmrec.models.vecf:VECF",
        "Chen et al., SIGIR 2019",
        "UserQuery",
        "one or more",
        "formulas of the released code; values are normalised, not scaled",
    ),
    "vlsnr": Card(
        "gmmrec.models.vlsnr:VLSNR",
        "Han et al., arXiv 2210.02946",
        "HistoryQuery",
        "one or more",
        "reconstruction: blocks from abstract, equations ours",
    ),
}


class ModelTable(Mapping[str, "type[AnyRecommender]"]):
    """Model classes by name. Names are known at once; looking up a class imports its module, and with it torch."""

    def __getitem__(self, name: str) -> "type[AnyRecommender]":
        module, _, cls = CARDS[name].path.partition(":")
        found: type[AnyRecommender] = getattr(import_module(module), cls)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(CARDS)

    def __len__(self) -> int:
        return len(CARDS)

    def __contains__(self, name: object) -> bool:
        return name in CARDS

    def name_of(self, model_class: type) -> str | None:
        """Return the name of a class in the table, None for any other class; imports nothing else."""
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
