"""Readers of file formats and folder layouts."""
