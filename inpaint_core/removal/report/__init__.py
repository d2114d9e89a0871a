"""The report of a removal job."""
