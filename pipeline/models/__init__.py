"""The recurrent core, the protocol of heads, predictions, and the model that joins them."""
