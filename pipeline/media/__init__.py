"""Files <-> frames: probing, decoding on one clock, resizing, finding and writing videos. Knows nothing about
networks.
"""
