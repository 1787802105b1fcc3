"""Readers of published data layouts: files to frozen, typed, undecoded records."""
