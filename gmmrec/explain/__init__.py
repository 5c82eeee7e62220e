"""Explanations: what of an item counted, and what of a user, as a table and as a picture."""
