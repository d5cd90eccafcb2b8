"""Tests of minimega/seq2seq."""
