"""What a model can do, measured; models are handed in."""
