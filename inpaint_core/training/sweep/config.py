"""The config of a sweep (`inpaint tune`): every key, its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.metrics.names import Metric
from inpaint_core.training.config import LossConfig, TrainConfig, Weight

Adversarial = Literal["bce", "lsgan"]
Structure = Literal["ssim", "ms_ssim", "ms_ssim_gaussian"]
"""What stands beside L1; `ms_ssim_gaussian` is MS-SSIM, with L1 under Gaussian windows (`loss.l1_window`)."""

EACH_TRIAL = "(each trial has its own)"
"""Stands for `training.output` in the config of a sweep."""


def _without_output(tree: Any) -> Any:
    """The trials' output follows from the sweep's: a user gives only that."""
    return {"output": EACH_TRIAL, **tree} if isinstance(tree, Mapping) else tree


@with_config(STRICT)
@dataclass(frozen=True)
class LossSpace:
    """Search space of the losses, for random and model-based search.

    The reconstruction is `share` L1 + (1 - `share`) structure; the adversarial part has its weight, and the reconstruction
    1 minus that.
    """

    l1_share: Annotated[
        tuple[Fraction, Fraction],
        Field(description="Minimum and maximum share of L1; the remainder is (MS-)SSIM."),
    ] = (0.0, 1.0)
    structure: Annotated[
        tuple[Structure, ...],
        Field(
            min_length=1,
            description="Structural terms to choose from: `ssim`, `ms_ssim`, `ms_ssim_gaussian` (MS-SSIM and `loss.l1_window=gaussian`).",
        ),
    ] = ("ssim", "ms_ssim_gaussian")
    adversarial: Annotated[
        tuple[Adversarial, ...],
        Field(min_length=1, description="Adversarial losses to choose from: `bce`, `lsgan`, or both."),
    ] = ("bce",)
    adversarial_weight: Annotated[
        tuple[
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
        ],
        Field(description="Minimum and maximum weight of the adversarial term, sampled log-uniformly."),
    ] = (0.001, 0.001)


@with_config(STRICT)
@dataclass(frozen=True)
class GridSearch:
    """Grid search: every combination of the values, and additional points."""

    kind: Literal["grid"] = "grid"
    l1_share: Annotated[
        tuple[Fraction, ...],
        Field(description="Shares of L1; the remainder is (MS-)SSIM. Empty: only `points`."),
    ] = ()
    structure: Annotated[
        tuple[Structure, ...],
        Field(
            min_length=1,
            description="Structural terms: `ssim`, `ms_ssim`, `ms_ssim_gaussian` (MS-SSIM and `loss.l1_window=gaussian`).",
        ),
    ] = ("ssim",)
    adversarial: Annotated[
        tuple[Adversarial, ...],
        Field(min_length=1, description="Adversarial losses: `bce`, `lsgan`, or both."),
    ] = ("bce",)
    adversarial_weight: Annotated[
        tuple[Annotated[Weight, Field(lt=1)], ...],
        Field(min_length=1, description="Weights of the adversarial term; the reconstruction term has 1 minus that."),
    ] = (0.001,)
    points: Annotated[
        tuple[LossConfig, ...], Field(description="Additional points: complete losses, as `loss` in a training config.")
    ] = ()


@with_config(STRICT)
@dataclass(frozen=True)
class RandomSearch:
    """Random search: points sampled uniformly from the search space."""

    kind: Literal["random"] = "random"
    points: Annotated[int, Field(ge=1, description="Number of points.")] = 16
    space: Annotated[LossSpace, Field(description="Search space.")] = field(default_factory=LossSpace)
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Random seed of the points.")] = 0


@with_config(STRICT)
@dataclass(frozen=True)
class OptunaSearch:
    """Model-based search: points proposed by Optuna's TPE sampler from the finished trials (Akiba et al., KDD 2019)."""

    kind: Literal["optuna"] = "optuna"
    points: Annotated[int, Field(ge=1, description="Number of points.")] = 24
    space: Annotated[LossSpace, Field(description="Search space.")] = field(default_factory=LossSpace)
    seed: Annotated[int, Field(ge=0, lt=2**32, description="Random seed of the sampler.")] = 0


@with_config(STRICT)
@dataclass(frozen=True)
class AshaConfig:
    """Early stopping by ASHA (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020)."""

    grace: Annotated[int, Field(ge=1, description="Grace period: epochs that every trial runs.")] = 1
    reduction: Annotated[
        float,
        Field(
            gt=1,
            description="Reduction factor n: one in n trials continues after `grace` epochs, after n times `grace` epochs, and so on.",
        ),
    ] = 3.0


@with_config(STRICT)
@dataclass(frozen=True)
class TuneConfig:
    """One sweep."""

    output: Annotated[
        str, Field(min_length=1, description="Folder or bucket prefix of the trials and the report (a path or a URI).")
    ] = "runs/sweep"
    training: Annotated[
        TrainConfig,
        BeforeValidator(_without_output),
        Field(description="Training config of every trial; the sweep sets `loss`, `seed` and `output`."),
    ] = field(default_factory=lambda: TrainConfig(output=EACH_TRIAL))
    search: Annotated[
        GridSearch | RandomSearch | OptunaSearch,
        Field(discriminator="kind", description="Search strategy."),
    ] = field(default_factory=RandomSearch)
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
        Field(min_length=1, description="Random seeds; each point is trained once per seed."),
    ] = (0,)
    objectives: Annotated[
        tuple[Metric, ...],
        Field(
            min_length=1,
            description="Validation metrics. The first one decides early stopping and `best.yaml`; with several, the report has the Pareto front.",
        ),
    ] = ("table_psnr", "sharpness")
    asha: Annotated[
        AshaConfig | None,
        Field(
            description="Early stopping of trials by ASHA; null: all trials run to their last epoch, including those stopped earlier."
        ),
    ] = field(default_factory=AshaConfig)
    concurrent: Annotated[
        int | None,
        Field(
            ge=1,
            description="Maximum number of concurrent trials; null: as many as fit the cluster. With `training.scaling.wait_for_nodes`, nodes for this many trials are requested and awaited (null: for one).",
        ),
    ] = None
