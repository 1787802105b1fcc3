"""Weights: official files and the embedded World model, their download, conversion and loading."""
