"""A hole filled with patches of the photograph itself."""
