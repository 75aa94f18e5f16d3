"""Generators, critics and what they are trained with."""
