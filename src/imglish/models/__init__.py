"""Architectures: configs, modules and two-way weight maps."""
