"""Layers with keyword arguments, free of any task."""
