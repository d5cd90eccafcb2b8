"""Faster versions of functions above, under the same names and signatures."""
