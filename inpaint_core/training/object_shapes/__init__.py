"""From photographs to the file of object shapes, for holes of kind `objects`."""
