"""Layers over sequences: what was done, in the order in which it was done."""
