"""Encoders: from raw input to (B, T, D)."""
