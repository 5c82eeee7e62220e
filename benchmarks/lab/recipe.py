"""The recipe of a run: the only module of the benchmarks that says where gmmrec keeps it."""

from gmmrec.runs.config import RunConfig, read_config
from gmmrec.runs.recipe import run

__all__ = ["RunConfig", "read_config", "run"]
