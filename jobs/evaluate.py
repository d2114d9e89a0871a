"""The results table of trained networks: the same as `inpaint evaluate`, from a checkout that may not be installed."""

from _checkout import start

start("evaluate")
