"""Metrics: pure functions from predictions and true values to numbers. One file holds one family of metrics."""
