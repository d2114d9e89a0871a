"""One module per file format (its `FORMAT`, a `format.ImageFormat`): `read` takes a file apart, its `write` puts it together again.

A reader parses the container itself and leaves only the compressed samples to Pillow or OpenCV; a writer takes over
every byte of the container that is not samples. So metadata survive without being understood, a damaged file is
recognised whatever global settings Pillow has been given, and no metadata reach the codec.
"""
