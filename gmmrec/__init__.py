"""Multimodal graph recommendation on PyTorch Geometric."""
