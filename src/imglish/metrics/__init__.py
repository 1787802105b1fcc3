"""Scores: update, reduce over ranks, compute."""
