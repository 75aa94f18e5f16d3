"""Trained models at work: answers for files and folders, events of streams, features for training, generation."""
