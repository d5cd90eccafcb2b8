"""Tests of minimega/vectors."""
