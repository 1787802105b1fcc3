"""Run configurations and their assembly."""
