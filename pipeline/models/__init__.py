"""The recurrent cores, the protocols of heads, their predictions, and the model that joins encoder, core and heads."""
