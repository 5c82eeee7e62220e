"""Graphs: from data-set tables to ``HeteroData``."""
