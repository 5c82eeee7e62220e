"""Ensembles: recommenders made of trained recommenders, independent of runs."""
