"""BEiT-3 for transformers: its Auto classes read saved folders once `auto.register` has been called."""
