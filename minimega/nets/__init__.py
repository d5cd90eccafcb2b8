"""Layers for any net, and descriptions of layers."""
