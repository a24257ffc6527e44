"""What several tests need, each in one place: makers of stores, corpora, models and runs, comparisons, damage."""
