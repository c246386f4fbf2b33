"""Measure a network on a split of its data."""
