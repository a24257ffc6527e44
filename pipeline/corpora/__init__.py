"""Datasets as they lie on disk, and the corpus that they all become: one row per image."""
