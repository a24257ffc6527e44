"""Captions word by word: the vocabulary, and the network that the trainer trains and the pipeline reads with."""
