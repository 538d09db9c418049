"""Training: the loop, its state, checkpoints, and starting from another run."""
