"""Training: loss over the vocabulary, optimisers, schedules, the loop that survives."""
