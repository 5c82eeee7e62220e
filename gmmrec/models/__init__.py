"""MODELS: every model of the package, by the name used on the command line."""

from typing import NamedTuple

from gmmrec.models.bert4rec import BERT4Rec
from gmmrec.models.bias import Bias
from gmmrec.models.bm3 import BM3
from gmmrec.models.cmbf import CMBF
from gmmrec.models.ease import EASE
from gmmrec.models.ease_features import EASEFeatures
from gmmrec.models.freedom import FREEDOM
from gmmrec.models.graph_filter import GraphFilter
from gmmrec.models.graph_fusion import GraphFusion
from gmmrec.models.hcgcn import HCGCN
from gmmrec.models.irn import IRN
from gmmrec.models.lattice import LATTICE
from gmmrec.models.lightgcn import LightGCN
from gmmrec.models.marank import MARank
from gmmrec.models.mario import MARIO
from gmmrec.models.mcptr import MCPTR
from gmmrec.models.mgat import MGAT
from gmmrec.models.mgcn import MGCN
from gmmrec.models.mkgformer import MKGformer
from gmmrec.models.mm_rec import MMRec
from gmmrec.models.mmgcn import MMGCN
from gmmrec.models.mml import MML
from gmmrec.models.mmt_net import MMTNet
from gmmrec.models.nor import NOR
from gmmrec.models.nova_bert import NOVABERT
from gmmrec.models.nrpa import NRPA
from gmmrec.models.pog import POG
from gmmrec.models.popularity import Popularity
from gmmrec.models.saers import SAERS
from gmmrec.models.uvcan import UVCAN
from gmmrec.models.vbpr import VBPR
from gmmrec.models.vecf import VECF
from gmmrec.models.vlsnr import VLSNR
from gmmrec.recommender import AnyRecommender

MODELS: dict[str, type[AnyRecommender]] = {
    "bert4rec": BERT4Rec,
    "bias": Bias,
    "bm3": BM3,
    "cmbf": CMBF,
    "ease": EASE,
    "ease-features": EASEFeatures,
    "freedom": FREEDOM,
    "graph-filter": GraphFilter,
    "graph-fusion": GraphFusion,
    "hcgcn": HCGCN,
    "irn": IRN,
    "lattice": LATTICE,
    "lightgcn": LightGCN,
    "marank": MARank,
    "mario": MARIO,
    "mcptr": MCPTR,
    "mgat": MGAT,
    "mgcn": MGCN,
    "mkgformer": MKGformer,
    "mm-rec": MMRec,
    "mmgcn": MMGCN,
    "mml": MML,
    "mmt-net": MMTNet,
    "nor": NOR,
    "nova-bert": NOVABERT,
    "nrpa": NRPA,
    "pog": POG,
    "popularity": Popularity,
    "saers": SAERS,
    "uvcan": UVCAN,
    "vbpr": VBPR,
    "vecf": VECF,
    "vlsnr": VLSNR,
}


class Card(NamedTuple):
    """What the table of models says of one, beside its name and query."""

    paper: str
    modalities: str
    fidelity: str


CARDS: dict[str, Card] = {
    "bert4rec": Card(
        "Sun et al., CIKM 2019", "none used", "the released code; positions count from the newest, masks are drawn anew"
    ),
    "bias": Card("Koren, Bell & Volinsky, Computer 2009, equation 3", "none used", "exact, in closed form"),
    "bm3": Card("Zhou et al., WWW 2023", "one or more", "exact to the released code; any modalities, items without some"),
    "cmbf": Card("Chen et al., Sensors 2021", "one or more", "reconstruction: layers of an industrial implementation, in words"),
    "ease": Card("Steck, WWW 2019", "none used", "exact"),
    "ease-features": Card(
        "CEASE and Add-EASE: Jeunen et al., RecSys 2020; L3AE; k-NN", "one or more", "CEASE, Add-EASE exact; L3AE reconstructed"
    ),
    "freedom": Card("Zhou & Shen, ACM MM 2023", "one or more", "exact, but raw features are not trained; any modalities"),
    "graph-filter": Card(
        "linear filter of GF-CF: Shen et al., CIKM 2021", "optional", "exact by default; hops, power, features added"
    ),
    "graph-fusion": Card(
        "no paper: parts of the others, combined", "optional", "models of papers that are points of it score alike"
    ),
    "hcgcn": Card("Mu et al., ACM MM 2022", "one or more", "reconstruction v1 from the abstract; no text, no code"),
    "irn": Card("Lv et al., IEEE Access 2019", "one or more", "reconstruction from the abstract: no equations, no code"),
    "lattice": Card("Zhang et al., ACM MM 2021", "one or more", "the released code, but raw features are not trained"),
    "lightgcn": Card("He et al., SIGIR 2020", "none used", "exact, but every interaction is trained on once an epoch"),
    "marank": Card("Yu et al., AAAI 2019", "none used", "layers of the released code; its two optimizers are one"),
    "mario": Card("Kim et al., CIKM 2022", "one or more", "reconstruction: no code, equations from summaries"),
    "mcptr": Card("Liu et al., ICMR 2022", "one or more", "reconstruction: parts and losses from summaries, their form is ours"),
    "mgat": Card(
        "Tao et al., IPM 2020",
        "one or more",
        "equations of the released code; widths and loss deviate",
    ),
    "mgcn": Card("Yu et al., ACM MM 2023", "one or more", "the released code, but raw features are not trained; any modalities"),
    "mkgformer": Card(
        "Chen et al., SIGIR 2022", "of entities; optional", "fusion of the released code; features stand in for BERT and CLIP"
    ),
    "mm-rec": Card(
        "Wu et al., SIGIR 2022", "one or more", "equations of the released code, masks mended; no pre-trained ViLBERT inside"
    ),
    "mmgcn": Card("Wei et al., ACM MM 2019", "one or more", "the paper; the bugs of the released code are mended"),
    "mml": Card(
        "Pan et al., CIKM 2022", "one or more", "equations of the released code; three stages or one, only fast parts adapt"
    ),
    "mmt-net": Card(
        "Krishnan et al., SIGIR 2020", "optional", "reconstruction: module roles from summaries, the equations are ours"
    ),
    "nor": Card(
        "Lin et al., TKDE 2019", "one or more; comments", "reconstruction: parts from abstract and figures, the formulas are ours"
    ),
    "nova-bert": Card(
        "Liu et al., AAAI 2021", "optional", "attention and fusions from a report of the paper; no code, the rest reconstructed"
    ),
    "nrpa": Card("Liu et al., SIGIR 2019", "none used; reviews", "reconstruction: layers of two re-implementations, biases added"),
    "pog": Card("Chen et al., KDD 2019", "optional", "reconstruction: stages and networks of the paper, layers are ours"),
    "popularity": Card("no paper: training interactions counted", "none used", "exact"),
    "saers": Card("Hou et al., IJCAI 2019", "one or more", "reconstruction from the abstract; regions by SEN on frozen features"),
    "uvcan": Card("Liu et al., WWW 2019", "one or more", "reconstruction: inputs and direction from abstract and surveys"),
    "vbpr": Card("He & McAuley, AAAI 2016", "one or more", "exact for one modality; more, and items without, are additions"),
    "vecf": Card("Chen et al., SIGIR 2019", "one or more", "formulas of the released code; values are normalised, not scaled"),
    "vlsnr": Card("Han et al., arXiv 2210.02946", "one or more", "reconstruction: blocks from abstract, equations ours"),
}


def describe_models() -> list[dict[str, str]]:
    """One row a model: name, paper, query, modalities, fidelity."""
    return [
        {"name": name, "paper": CARDS[name].paper, "query": model.query_type.__name__, **CARDS[name]._asdict()}
        for name, model in MODELS.items()
    ]
