"""Losses to try, and the trials that try them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, assert_never, get_args

import numpy as np

from inpaint_core.config import to_earlier_tree
from inpaint_core.errors import ConfigError
from inpaint_core.training.config import LossConfig, Term, TrainConfig
from inpaint_core.training.sweep.config import (
    Adversarial,
    GridSearch,
    LossSpace,
    OptunaSearch,
    RandomSearch,
    Structure,
    TuneConfig,
)

_FIRST_KEYS = (
    *("adversarial", "adversarial_weight", "reconstruction_weight", "l1", "l2", "ssim", "ms_ssim"),
    *("overlap_weight", "outside_weight"),
)
"""Keys of a loss that the names of trials have followed from since the first version."""
_LATER_KEYS = tuple(key.name for key in fields(LossConfig) if key.name not in _FIRST_KEYS)
"""All others, which a name follows from where they are not at their defaults."""


@dataclass(frozen=True)
class Trial:
    """One training of a sweep.

    Args:
        loss: what it tries.
        seed: its training's seed.
    """

    loss: LossConfig
    seed: int

    @property
    def point(self) -> str:
        """What its loss is called in tables: equal for trials that differ in their seed alone."""
        return label(self.loss)

    @property
    def name(self) -> str:
        """Its folder below the sweep's output; follows from loss and seed alone."""
        # Without keys of later versions at their defaults: a sweep that an earlier version began finds its trials.
        tree = to_earlier_tree(self.loss, _LATER_KEYS)
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:8]
        return f"{digest}-seed{self.seed}"

    def config(self, sweep: TuneConfig) -> TrainConfig:
        """The training that it is."""
        output = f"{sweep.output.rstrip('/')}/trials/{self.name}"
        return replace(sweep.training, loss=self.loss, seed=self.seed, output=output)


def label(loss: LossConfig) -> str:
    """A loss in a few words: `bce 0.001, l1 0.3, ssim 0.7`."""
    parts = [f"{loss.adversarial} {loss.adversarial_weight:.3g}"] if loss.adversarial_weight else ["no adversary"]
    weights = {name: getattr(loss, name) for name in (*get_args(Term), "r1") if name != "adversarial"}
    words = {"feature_matching": "feature matching"}
    parts += [f"{words.get(name, name)} {weight:.3g}" for name, weight in weights.items() if weight]
    parts += ["gaussian l1"] if loss.l1_window == "gaussian" and loss.l1 else []
    parts += [f"adversarial from {loss.adversarial_from:.0%}"] if loss.adversarial_from else []
    parts += ["overlap normalised"] if loss.normalise_overlap else []
    return ", ".join(parts)


def l1_share(loss: LossConfig) -> float | None:
    """The share of L1 among L1 and (MS-)SSIM, 0 to 1; None for a loss with neither."""
    total = loss.l1 + loss.ssim + loss.ms_ssim
    return loss.l1 / total if total else None


def mixture(
    base: LossConfig, share: float, structure: Structure, adversarial: Adversarial, adversarial_weight: float
) -> LossConfig:
    """`share` L1 + (1 - `share`) structure, and an adversarial part of a weight; the rest as in `base`."""
    return replace(
        base,
        adversarial=adversarial if adversarial_weight else "bce",  # without a weight they are all the same
        adversarial_weight=adversarial_weight,
        reconstruction_weight=1 - adversarial_weight,
        l1=share,
        l2=0.0,
        ssim=1 - share if structure == "ssim" else 0.0,
        ms_ssim=0.0 if structure == "ssim" else 1 - share,
        l1_window="gaussian" if structure == "ms_ssim_gaussian" else base.l1_window,
    )


def drawn(base: LossConfig, values: dict[str, Any]) -> LossConfig:
    """The loss of a point that a search drew: a value for each key of `LossSpace`."""
    return mixture(base, values["l1_share"], values["structure"], values["adversarial"], values["adversarial_weight"])


def constants(space: LossSpace) -> dict[str, Any]:
    """The values of the keys in which a space has no choice."""
    values: dict[str, Any] = {"structure": space.structure[0], "adversarial": space.adversarial[0]}
    return values | {"l1_share": space.l1_share[0], "adversarial_weight": space.adversarial_weight[0]}


def check_space(space: LossSpace) -> None:
    """Refuse limits in the wrong order, and those that leave no choice.

    Raises:
        ConfigError: names the key.
    """
    for key in ("l1_share", "adversarial_weight"):
        least, greatest = getattr(space, key)
        if least > greatest:
            raise ConfigError(f"search.space.{key}: {least} to {greatest} is an empty range; give the minimum first")
    fixed = all(least == greatest for least, greatest in (space.l1_share, space.adversarial_weight))
    if fixed and len(space.structure) == len(space.adversarial) == 1:
        raise ConfigError("search.space: contains a single loss, which leaves nothing to search; widen a range")


def fixed_points(sweep: TuneConfig) -> list[LossConfig]:
    """The points of a grid or of a random search, without repetition, in an order that follows from the config.

    Raises:
        ConfigError: there are none, or the limits of the space are in the wrong order.
    """
    base, search = sweep.training.loss, sweep.search
    match search:
        case GridSearch():
            products = itertools.product(
                search.l1_share, search.structure, search.adversarial, search.adversarial_weight
            )
            points = [mixture(base, *values) for values in products] + list(search.points)
            if not points:
                raise ConfigError("search: the grid has no points; give search.l1_share or search.points")
        case RandomSearch():
            check_space(search.space)
            rng = np.random.default_rng(search.seed)
            points = [drawn(base, _draw(search.space, rng)) for _ in range(search.points)]
        case OptunaSearch():
            raise ValueError("the points of a model-based search follow from its results")
        case _:
            assert_never(search)
    return list(dict.fromkeys(points))


def trials_of(points: Sequence[LossConfig], seeds: Sequence[int]) -> list[Trial]:
    """Each point with each seed; the first seed of all points comes first, so that an early look sees every point."""
    return [Trial(point, seed) for seed in dict.fromkeys(seeds) for point in points]


def _draw(space: LossSpace, rng: np.random.Generator) -> dict[str, Any]:
    least, greatest = (math.log(weight) for weight in space.adversarial_weight)
    return {
        "l1_share": round(float(rng.uniform(*space.l1_share)), 4),
        "structure": space.structure[rng.integers(len(space.structure))],
        "adversarial": space.adversarial[rng.integers(len(space.adversarial))],
        "adversarial_weight": float(f"{math.exp(rng.uniform(least, greatest)):.3g}"),
    }
