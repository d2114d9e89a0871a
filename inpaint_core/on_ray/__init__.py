"""The jobs on Ray: the only modules that import it."""
