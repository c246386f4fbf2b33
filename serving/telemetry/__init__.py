"""Metrics and request ids."""
