"""Models of other frameworks: read them and write them."""
