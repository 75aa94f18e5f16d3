"""Evaluation of a trained model: metrics on a dataset, baselines, calibration and the report."""
