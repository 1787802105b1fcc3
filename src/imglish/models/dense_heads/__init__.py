"""Heads that predict for every pixel or box."""
