"""Pure functions from predictions and truths to numbers, one file a family."""
