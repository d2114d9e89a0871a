"""Sweeps of the loss weights: `inpaint tune`. Knows no Ray."""
