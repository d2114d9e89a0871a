"""Which settings and weights made a result: one short hash for all that can change it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from inpaint_core.config import to_earlier_tree, to_tree
from inpaint_core.networks.weights.load import Weights
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.rule_check import default_rules_of, rules_change_outputs

RESULT_VERSION = 3
"""Part of every hash: raised whenever the code changes what a given config makes of a given image. Where only one inpainter
makes something else of it, its `InpainterSettings.result_version` is raised instead."""

ModelWeights = tuple[Weights | None, Weights | None]
"""Weights of a detector and of an inpainter, each None where the kind has none."""


def config_hash(config: RemoveConfig, *weights: Weights | None, attempts: Sequence[ModelWeights] = ()) -> str:
    """Hash of every setting that can change a result; weights count by content, not by name.

    Rules that change nothing but the status of a record are not part of it: `RecordJudge` applies them to what is there.

    Args:
        config: the settings.
        weights: of the detector and of the inpainter.
        attempts: both of each entry of `retry`.
    """
    tree = _tree_of_results(config)
    relevant: dict[str, Any] = {
        "version": RESULT_VERSION,
        "limits": [config.listing.max_bytes, config.listing.max_pixels],
        "precision": config.scaling.precision,
        "weights": _contents(weights),
    } | {section: tree[section] for section in ("detector", "mask", "inpainter", "fill", "write", "measure")}
    if rules_change_outputs(config):
        relevant["accept"] = config.accept.hashed(default_rules_of(config))
    if config.retry:
        relevant["retry"] = [
            {section: changed[section] for section in ("detector", "mask", "inpainter", "fill")}
            | {"weights": _contents(own)}
            for changed, own in zip(map(_tree_of_results, config.attempts()), attempts, strict=True)
        ]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def _tree_of_results(config: RemoveConfig) -> dict[str, Any]:
    """The settings as a tree, whose sections that can change a result are without what makes no difference to it."""
    tree = to_tree(config)
    for section in ("detector", "mask", "inpainter", "write"):
        settings = getattr(config, section)
        tree[section] = to_earlier_tree(settings, settings.added)
    for section in ("detector", "inpainter"):
        tree[section] = {key: value for key, value in tree[section].items() if key not in ("weights", "sha256")}
    if config.inpainter.result_version:
        tree["inpainter"]["result_version"] = config.inpainter.result_version
    for name in config.detector.unordered:
        tree["detector"][name].sort()
    tree["detector"]["kind"] = next(iter(config.detector.former_kinds), tree["detector"]["kind"])
    tree["fill"] = {key: value for key, value in tree["fill"].items() if key != "windows_per_batch"}
    return tree


def _contents(weights: Sequence[Weights | None]) -> list[str | None]:
    return [item.sha256 if item else None for item in weights]
