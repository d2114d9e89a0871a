"""Detection: what finds the objects of an image."""
