"""The text tokenizer: SentencePiece with the id layout of the official models."""
