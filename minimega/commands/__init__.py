"""A file for each command, and the helpers that they share."""
