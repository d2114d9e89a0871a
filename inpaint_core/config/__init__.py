"""Typed configs of the jobs: a YAML file, `key.path=value` overrides on top, one form of error."""

from inpaint_core.config.loading import load_config, tree_of, validate
from inpaint_core.config.schema import STRICT, Fraction, Sha256
from inpaint_core.config.writing import (
    Key,
    argument_parser,
    documented_keys,
    to_earlier_tree,
    to_tree,
    to_yaml,
)

__all__ = [
    "STRICT",
    "Fraction",
    "Key",
    "Sha256",
    "argument_parser",
    "documented_keys",
    "load_config",
    "to_earlier_tree",
    "to_tree",
    "to_yaml",
    "tree_of",
    "validate",
]
