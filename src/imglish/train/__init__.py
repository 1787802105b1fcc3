"""The training engine: it turns the crank and knows no modality."""
