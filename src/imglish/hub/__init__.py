"""Weights: the embedded World model, local files and their loading."""
