"""Criteria: predictions and targets to scalar loss terms."""
