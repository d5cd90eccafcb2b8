"""Layers for any net, and what a layer says of itself."""
