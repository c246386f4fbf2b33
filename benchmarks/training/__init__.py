"""Training speed, beside plain Keras scripts."""
