"""One file per command, and the helpers they share."""
