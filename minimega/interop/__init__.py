"""Models of other frameworks: read them and write them."""

from minimega.interop.gpt2 import read, write

__all__ = ["read", "write"]
