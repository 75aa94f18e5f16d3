"""Encoders: from a raw sense to (B, T, D)."""
