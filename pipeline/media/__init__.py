"""Video files and sources <-> frames: probe, decode, sample, resize, find and write videos.

Knows nothing about networks.
"""
