"""Serving of trained models in raw ids."""
