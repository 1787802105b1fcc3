"""Typed containers that cross the borders between packages."""
