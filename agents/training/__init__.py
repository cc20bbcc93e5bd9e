"""What every learner shares: configuration, checkpoints, the training loop, callbacks."""
