"""Removal of objects from image collections, and training of the networks that fill the holes."""

__version__ = "0.1.0"
