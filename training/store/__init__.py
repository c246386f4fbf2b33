"""Reads and writes the files of an exported version: card, SavedModel, samples, warm-up requests."""
