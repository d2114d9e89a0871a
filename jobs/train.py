"""Train a network that fills holes: the same as `inpaint train`, from a checkout that may not be installed."""

from _checkout import start

start("train")
