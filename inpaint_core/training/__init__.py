"""Training of the networks that fill holes; nothing here knows Ray."""
