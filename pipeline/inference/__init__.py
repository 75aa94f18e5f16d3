"""A trained model at work: one video, a folder of them, features for training."""
