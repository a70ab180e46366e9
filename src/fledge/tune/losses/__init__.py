"""Losses of post-training as pure functions: log-probabilities or scores in, one loss each out."""
