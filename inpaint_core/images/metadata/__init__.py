"""Metadata of a file: EXIF and XMP, and the parts of them that would show the removed object."""
