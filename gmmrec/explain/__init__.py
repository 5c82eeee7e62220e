"""Explanations of scores: weights of the parts of an item and of a user."""
