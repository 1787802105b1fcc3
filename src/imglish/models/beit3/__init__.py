"""BEiT-3: the Multiway Transformer and its heads (arXiv 2208.10442)."""
