"""Pictures: the only files that draw."""
