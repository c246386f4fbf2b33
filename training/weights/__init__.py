"""Weights read from and written to files."""
