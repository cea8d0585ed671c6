"""Decoding: many rows at once for rollouts and evaluation, one row with the first token fast for chat."""
