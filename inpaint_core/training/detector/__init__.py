"""Training of a small detector by a teacher: `python -m inpaint_core.training.detector.command`."""
