"""Tests of minimega/interop."""
