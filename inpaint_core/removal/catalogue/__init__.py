"""The catalogue of a removal job: what was listed, what is done, what is left, and whose the outputs are."""
