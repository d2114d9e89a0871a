"""The models of the results table: their configs, what is known of them, and the settings of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError
from inpaint_core.training.config import TrainConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "train"

_PUBLISHED_MODELS = ("base", "lsgan_l1", "joint_30_70", "joint_50_50", "joint_005_995")
MODELS = (*_PUBLISHED_MODELS, "ms_ssim_l1", *(f"paper/{name}" for name in _PUBLISHED_MODELS))
"""Names of configs below `configs/train`, in the order of the table."""

PUBLISHED: Mapping[str, str] = {
    "base": "0.0653, 0.0319, 15.77, 0.7385",
    "lsgan_l1": "0.0619, 0.0319, 15.94, 0.7538",
    "joint_30_70": "0.0651, 0.0366, 15.40, 0.7504",
    "joint_50_50": "0.0645, 0.0363, 15.44, 0.7512",
    "joint_005_995": "0.0740, 0.0485, 14.31, 0.7441",
}
"""L1, L2, PSNR and SSIM under the protocol `table`, of 40 epochs of 100,000 photographs, by a model's last name."""

SMALL = ("network.bottleneck=512", "network.width=32", "discriminator.width=32")
"""Settings of every model on a CPU: half the published width, an eighth of the published bottleneck."""

EPOCHS_MEASURED = 2
"""Of a short run: in the first, which is slower, libraries choose and compile their kernels."""

_BY_OPTION = {"data": "--data", "validation.data": "--validation", "output": "--output", "epochs": "--epochs"}


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Args:
        data: URI of the training photographs.
        validation: URI of the photographs of the tables, and of the validation after each epoch.
        document: the Markdown file of the tables; its sheet lies in `benchmarks/` beside it.
        output: folder or bucket prefix of the runs and evaluations.
        minutes: training per model; None: `epochs` says how long.
        epochs: passes over the photographs; None: `minutes` says how many.
        models: of `MODELS`; `NAME:2` is the model of that name with twice the epochs, a row of its own.
        settings: `key.path=value` of `inpaint train`, for every model.
        measured: photographs of the short run that measures a speed.
    """

    data: str
    validation: str
    document: Path = ROOT / "RESULTS.md"
    output: str = "runs/results"
    minutes: float | None = None
    epochs: int | None = None
    models: tuple[str, ...] = MODELS
    settings: tuple[str, ...] = ()
    measured: int = 2048


def check_request(request: Request) -> None:
    """Refuse what no run can do.

    Raises:
        ConfigError: an option is missing, or has a wrong value.
    """
    for option, make, value in (("data", "DATA", request.data), ("validation", "VAL", request.validation)):
        if not value:
            raise ConfigError(f"--{option}: the photographs are missing; give --{option} URI (make results {make}=URI)")
    if (request.minutes is None) == (request.epochs is None):
        raise ConfigError("--minutes, --epochs: give one of them (make results MINUTES=60, or EPOCHS=40)")
    if request.minutes is not None and not 0 < request.minutes < float("inf"):
        raise ConfigError(f"--minutes: {request.minutes:g} is not positive; give the minutes of training per model")
    if request.epochs is not None and request.epochs < 1:
        raise ConfigError(f"--epochs: {request.epochs} is not at least 1")
    if request.measured < 1:
        raise ConfigError(f"--measured: {request.measured} photographs are not at least 1")
    unknown = [model for model in request.models if config_of(model) not in MODELS or not _is_factor(model)]
    if unknown or not request.models:
        raise ConfigError(
            f"--models: {', '.join(unknown) or 'none'} is no model of the table; choose of {', '.join(MODELS)} "
            "(NAME:2: with twice the epochs)"
        )
    if len(set(request.models)) < len(request.models):
        raise ConfigError("--models: a model is named twice; name each once")
    for setting in request.settings:
        key = setting.partition("=")[0].strip()
        if key in _BY_OPTION:
            raise ConfigError(f"{key}: give it as {_BY_OPTION[key]}")
        if key in ("network.output", "holes.kinds"):
            raise ConfigError(f"{key}: the models of the table fill the central square; leave it out")


def _is_factor(model: str) -> bool:
    _, colon, factor = model.partition(":")
    return not colon or re.fullmatch("[1-9][0-9]{0,2}", factor) is not None


def config_of(model: str) -> str:
    """A model's name without the factor of its epochs: that of its config below `configs/train`."""
    return model.partition(":")[0]


def times_the_epochs(model: str) -> int:
    """How many times the epochs of the budget a model is trained."""
    return int(model.partition(":")[2] or 1)


def config_file(model: str) -> Path:
    """The YAML file of a model."""
    return CONFIGS / f"{config_of(model)}.yaml"


def overrides(request: Request, settings: Sequence[str], model: str, epochs: int | None) -> list[str]:
    """What the command line of a model's training has besides its config file; epochs None: those of the file."""
    return [
        *settings,
        f"data={request.data}",
        f"validation.data={request.validation}",
        f"output={run_of(request, model)}",
        *([] if epochs is None else [f"epochs={epochs}"]),
    ]


def measuring(request: Request, settings: Sequence[str], model: str) -> list[str]:
    """The same of the short run that measures a model's speed."""
    return [
        *overrides(request, settings, model, EPOCHS_MEASURED),
        f"output={measured_run_of(request, model)}",
        f"reading.limit={request.measured}",
        "validation.images=64",
    ]


def model_config(request: Request, settings: Sequence[str], model: str, epochs: int | None = None) -> TrainConfig:
    """The config of a model's training.

    Raises:
        ConfigError: a setting does not exist or has a wrong value.
    """
    return load_config(TrainConfig, config_file(model), overrides(request, settings, model, epochs))


def run_of(request: Request, model: str) -> str:
    """The output of a model's training."""
    return f"{request.output.rstrip('/')}/{model.replace(':', '-')}"


def measured_run_of(request: Request, model: str) -> str:
    """The output of the short run that measured a model's speed."""
    return f"{request.output.rstrip('/')}/speed/{config_of(model)}"


def kind_of(config: TrainConfig) -> str:
    """What the speed of a training follows from: models of one kind differ in weights and rates only."""
    terms = [name for name in ("l1", "l2", "ssim", "ms_ssim") if getattr(config.loss, name)]
    return f"{config.network.kind}, {' + '.join(terms) or 'no reconstruction'}"
