"""Heads: each asks the one core a question."""
