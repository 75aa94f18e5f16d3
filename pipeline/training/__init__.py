"""The loop and what stands round it: devices, optimisers, evaluation, tracking."""
