"""Training runs, one or several at once, from data to an exported version."""
