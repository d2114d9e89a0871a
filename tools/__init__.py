"""Tools that make documents and pictures of this project."""
