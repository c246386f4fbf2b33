"""The questions that the gateway answers, one module for each kind of input."""
