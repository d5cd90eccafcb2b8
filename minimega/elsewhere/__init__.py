"""What other frameworks call it: the end of an error message."""
