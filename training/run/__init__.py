"""One training run, or several, from data to an exported version."""
