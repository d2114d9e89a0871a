"""Remove objects from a collection of images: the same as `inpaint remove`, from a checkout that may not be installed."""

from _checkout import start

start("remove")
