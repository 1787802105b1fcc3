"""Trees of frozen dataclasses as YAML and as dotted settings."""
