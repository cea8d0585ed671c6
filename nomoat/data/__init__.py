"""Text, shards of tokens and packed batches; and the n-gram model that the base model has to beat."""
