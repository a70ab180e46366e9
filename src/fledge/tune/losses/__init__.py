"""Losses of post-training: pure functions of tensors, each with its paper and equation."""
