"""The config of the sweep: every key, its default and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.metrics.names import Metric
from inpaint_core.training.config import LossConfig, TrainConfig, Weight

Adversarial = Literal["bce", "lsgan"]
Structure = Literal["ssim", "ms_ssim"]

EACH_TRIAL = "(each trial has its own)"
"""Stands for `training.output` in the config of a sweep."""


def _without_output(tree: Any) -> Any:
    """The trials' output follows from the sweep's: a user gives only that."""
    return {"output": EACH_TRIAL, **tree} if isinstance(tree, Mapping) else tree


@with_config(STRICT)
@dataclass(frozen=True)
class LossSpace:
    """The losses that random and model-based searches draw from.

    The reconstruction is `share` L1 + (1 - `share`) structure; the adversarial part has its weight, and the reconstruction
    1 minus that.
    """

    l1_share: Annotated[
        tuple[Fraction, Fraction],
        Field(description="Least and greatest share of L1; the rest is (MS-)SSIM."),
    ] = (0.0, 1.0)
    structure: Annotated[
        tuple[Structure, ...],
        Field(min_length=1, description="`ssim`, `ms_ssim`, or both to choose from."),
    ] = ("ssim",)
    adversarial: Annotated[
        tuple[Adversarial, ...],
        Field(min_length=1, description="`bce`, `lsgan`, or both to choose from."),
    ] = ("bce",)
    adversarial_weight: Annotated[
        tuple[
            Annotated[float, Field(gt=0, lt=1)],
            Annotated[float, Field(gt=0, lt=1)],
        ],
        Field(description="Least and greatest weight of the adversarial part, drawn evenly on a logarithmic scale."),
    ] = (0.001, 0.001)


@with_config(STRICT)
@dataclass(frozen=True)
class GridSearch:
    """Every combination, and points of their own."""

    kind: Literal["grid"] = "grid"
    l1_share: Annotated[
        tuple[Fraction, ...],
        Field(description="Shares of L1; the rest is (MS-)SSIM. Empty: only `points`."),
    ] = ()
    structure: Annotated[tuple[Structure, ...], Field(min_length=1, description="`ssim`, `ms_ssim`, or both.")] = (
        "ssim",
    )
    adversarial: Annotated[tuple[Adversarial, ...], Field(min_length=1, description="`bce`, `lsgan`, or both.")] = (
        "bce",
    )
    adversarial_weight: Annotated[
        tuple[Annotated[Weight, Field(lt=1)], ...],
        Field(min_length=1, description="Weights of the adversarial part; the reconstruction has 1 minus that."),
    ] = (0.001,)
    points: Annotated[
        tuple[LossConfig, ...], Field(description="Losses given whole, as in a training config's `loss`.")
    ] = ()


@with_config(STRICT)
@dataclass(frozen=True)
class RandomSearch:
    """Points drawn evenly from a space."""

    kind: Literal["random"] = "random"
    points: Annotated[int, Field(ge=1, description="How many.")] = 16
    space: Annotated[LossSpace, Field(description="What they are drawn from.")] = field(default_factory=LossSpace)
    seed: Annotated[int, Field(ge=0, lt=2**32, description="What they follow from.")] = 0


@with_config(STRICT)
@dataclass(frozen=True)
class OptunaSearch:
    """Points that a model of the finished trials proposes (TPE, of Optuna: Akiba et al., KDD 2019)."""

    kind: Literal["optuna"] = "optuna"
    points: Annotated[int, Field(ge=1, description="How many.")] = 24
    space: Annotated[LossSpace, Field(description="What they are chosen from.")] = field(default_factory=LossSpace)
    seed: Annotated[int, Field(ge=0, lt=2**32, description="What the first ones follow from.")] = 0


@with_config(STRICT)
@dataclass(frozen=True)
class AshaConfig:
    """Trials that fall behind end early (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020)."""

    grace: Annotated[int, Field(ge=1, description="Epochs that every trial gets.")] = 1
    reduction: Annotated[
        float,
        Field(gt=1, description="One in so many goes on, after `grace` epochs, so many times `grace`, and so on."),
    ] = 3.0


@with_config(STRICT)
@dataclass(frozen=True)
class TuneConfig:
    """One sweep."""

    output: Annotated[
        str, Field(min_length=1, description="Folder or bucket prefix of the trials and the report; a URI.")
    ] = "runs/sweep"
    training: Annotated[
        TrainConfig,
        BeforeValidator(_without_output),
        Field(
            description="What every trial does, as in a training config; `loss`, `seed` and `output` are the sweep's."
        ),
    ] = field(default_factory=lambda: TrainConfig(output=EACH_TRIAL))
    search: Annotated[
        GridSearch | RandomSearch | OptunaSearch,
        Field(discriminator="kind", description="Which losses are tried."),
    ] = field(default_factory=RandomSearch)
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0, lt=2**63)], ...],
        Field(min_length=1, description="Each point is trained once with each of these."),
    ] = (0,)
    objectives: Annotated[
        tuple[Metric, ...],
        Field(
            min_length=1,
            description="Validation metrics. The first decides who goes on and what `best.yaml` holds; with several, the "
            "report has the Pareto front.",
        ),
    ] = ("table_psnr", "sharpness")
    asha: Annotated[
        AshaConfig | None,
        Field(
            description="Early end of trials that fall behind; null: all run to their last epoch, those too that were stopped."
        ),
    ] = field(default_factory=AshaConfig)
    concurrent: Annotated[
        int | None,
        Field(
            ge=1,
            description="Most trials at once; null: as many as the cluster has room for. With "
            "`training.scaling.wait_for_nodes`, nodes for so many are asked for and waited for; null: for one.",
        ),
    ] = None
