"""Encoders: from features and edges to vectors of users and items."""
