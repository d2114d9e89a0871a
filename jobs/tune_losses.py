"""Sweep the weights of the losses: the same as `inpaint tune`, from a checkout that may not be installed."""

from _checkout import start

start("tune")
