"""Layers: tensors in, tensors out; imports nothing of gmmrec."""
