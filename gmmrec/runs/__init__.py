"""Runs: training from settings, run folders on disk, and combinations of runs."""
