"""The review of a job's results: a local page, decisions, and carrying them out."""
