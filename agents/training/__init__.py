"""Shared by all learners: configuration, checkpoints, the training loop, callbacks."""
