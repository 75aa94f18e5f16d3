"""The heads: each one answers one question from the output of the shared core."""
