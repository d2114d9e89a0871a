"""Training of a small detector by a teacher: `inpaint detector`."""
