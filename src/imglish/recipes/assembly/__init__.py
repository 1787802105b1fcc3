"""Joining the parts of each kind of run: data, model, loss and metric."""
