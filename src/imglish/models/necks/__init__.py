"""Parts between a backbone and its head: pyramids in, pyramids out."""
