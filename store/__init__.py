"""The shard format: the one thing that the pipeline and the trainer share."""
