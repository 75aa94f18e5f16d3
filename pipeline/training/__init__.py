"""Training: the loop, optimizers, the state to resume from, processes and devices, and the tracking of a run."""
