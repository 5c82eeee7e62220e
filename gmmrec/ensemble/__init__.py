"""Ensembles: recommenders made of recommenders, and pure functions; they know no run."""
