"""The linear-chain conditional random field: likelihood, marginals, Viterbi decoding, and decoding with a fixed lag."""
