"""What a file says besides its pixels: EXIF and XMP, and what in them would show the removed object."""
