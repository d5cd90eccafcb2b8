"""Tests of minimega/judging."""
