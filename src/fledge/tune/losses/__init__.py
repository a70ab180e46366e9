"""Losses of post-training: pure functions of log-probabilities or scores, each with its paper."""
