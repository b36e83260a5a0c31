"""Training: what an epoch is made of, how the weights move, and what a run leaves in its folder."""
