"""Training: the examples of an epoch, the optimisation of the weights, and the files of a run."""
