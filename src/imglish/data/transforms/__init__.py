"""Picture and text transforms."""
