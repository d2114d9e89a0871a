"""Inpainting: what fills the masks of images of any size."""
