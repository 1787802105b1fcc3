"""ViT-Adapter: dense prediction with a plain ViT (arXiv 2205.08534)."""
