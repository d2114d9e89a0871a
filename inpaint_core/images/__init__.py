"""Images: bytes to pixels and back, metadata, and collections of photographs."""
