"""Picture files found, decoded once, and kept at every size in the order of the corpus."""
