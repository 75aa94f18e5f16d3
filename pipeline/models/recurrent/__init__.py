"""The recurrent core: its cells, its kernels, and mean-pooling as the baseline without order."""
