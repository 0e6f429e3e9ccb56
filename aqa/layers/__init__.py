"""Layers and losses that two models or more share."""
