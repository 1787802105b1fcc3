"""VQ-KD, the visual tokenizer of BEiT v2 (arXiv 2208.06366)."""
