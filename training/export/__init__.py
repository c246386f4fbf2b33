"""A trained model becomes the next version of a model repository."""
