"""Metrics: SSIM, and the two protocols of the results table."""
