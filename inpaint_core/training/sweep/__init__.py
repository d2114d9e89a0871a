"""Sweeps of the loss weights: `jobs/tune_losses.py`. Knows no Ray."""
