"""Weights: files of networks, loaded, saved, exported; and those that come with the package."""
