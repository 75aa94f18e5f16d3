"""From the rows of a manifest to batches of tensors."""
