"""Shared code of the benchmarks: declared settings, cells that run once, results as CSV, and tables rendered from them.

A benchmark declares cells (data set, model, settings, seed). A cell is run once: its row in ``benchmarks/results/NAME.csv`` or
its run folder below ``runs/NAME`` marks it as finished, and an interrupted cell resumes from its training state. Tables are
rendered from the CSV files alone, so ``--tables-only`` works in a fresh checkout.
"""
