"""Metrics, ranking and results."""
