"""Texts to integers to batches."""
