"""Models and decoders of text: attention decoder, beam search, sampling, CTC, n-gram language models."""
