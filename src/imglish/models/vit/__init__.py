"""The plain ViT of BEiT v2, as tokenizer and (later) as adapter backbone."""
