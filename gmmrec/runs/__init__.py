"""Runs: from settings to a finished run, its folder on disk, and runs made of runs."""
