"""The experiment: does dialogue help? Arms, seeds and ablations from a profile, run by the ordinary trainer."""
