"""The config of `inpaint train`: every key, its default and what it means.

The descriptions are the only documentation of a key: `--help` prints them, and the README's table is made from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.hole_masks.config import HoleKind
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.metrics.names import Metric
from inpaint_core.networks.spec import ContextEncoderSpec, GeneratorSpec
from inpaint_core.storage import S3Options

Weight = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@with_config(STRICT)
@dataclass(frozen=True)
class ValidationConfig:
    """What the networks are judged by after each epoch."""

    data: Annotated[
        str | None,
        Field(description="URI of the validation images; null: `images` of `data` are held out of the training."),
    ] = None
    images: Annotated[int, Field(ge=1, description="Number of validation images.")] = 1_000
    pictures: Annotated[int, Field(ge=1, le=64, description="Images in the picture grid of each epoch.")] = 8


@with_config(STRICT)
@dataclass(frozen=True)
class DiscriminatorConfig:
    """The network that tells fills from photographs in training (DCGAN's)."""

    width: Annotated[int, Field(ge=1, description="Channels of its largest feature maps.")] = 64


@with_config(STRICT)
@dataclass(frozen=True)
class HolesConfig:
    """The holes that the generator learns to fill."""

    kinds: Annotated[
        tuple[HoleKind, ...],
        Field(
            min_length=1,
            description="`center` (the middle 64x64), `box`, `strokes`, LaMa's `thin`, `medium`, `thick`, or `objects` "
            "(shapes of real objects).",
        ),
    ] = ("center",)
    weights: Annotated[
        tuple[Annotated[float, Field(gt=0.0, allow_inf_nan=False)], ...] | None,
        Field(description="How often each kind is drawn, in any unit; null: equally often."),
    ] = None
    objects: Annotated[
        str | None,
        Field(description="Parquet file of object shapes, which `inpaint shapes` makes of any photographs."),
    ] = None


@with_config(STRICT)
@dataclass(frozen=True)
class LossConfig:
    """L = adversarial_weight L_adv + reconstruction_weight (l1 L1 + l2 L2 + ssim (1 - SSIM) + ms_ssim (1 - MS-SSIM))."""

    adversarial: Annotated[
        Literal["bce", "lsgan"], Field(description="Binary cross-entropy, or least squares (Mao et al. 2017).")
    ] = "bce"
    adversarial_weight: Annotated[Weight, Field(description="Weight of the adversarial part.")] = 0.001
    reconstruction_weight: Annotated[Weight, Field(description="Weight of the reconstruction part.")] = 0.999
    l1: Annotated[Weight, Field(description="Weight of the mean absolute error.")] = 0.0
    l2: Annotated[Weight, Field(description="Weight of the mean squared error.")] = 0.0
    ssim: Annotated[Weight, Field(description="Weight of 1 - SSIM.")] = 0.0
    ms_ssim: Annotated[Weight, Field(description="Weight of 1 - MS-SSIM.")] = 0.0
    overlap_weight: Annotated[
        float,
        Field(
            gt=0.0, description="`center`: L1 and L2 weigh the outer 4 pixels, which the generator is shown, by this."
        ),
    ] = 10.0
    outside_weight: Annotated[
        Weight, Field(description="`full`: weight of L1 and L2 outside the hole, relative to inside.")
    ] = 0.0


@with_config(STRICT)
@dataclass(frozen=True)
class OptimiserConfig:
    """Adam for both networks (beta1 0.5, beta2 0.999)."""

    generator_rate: Annotated[float, Field(gt=0.0, description="Learning rate of the generator.")] = 5e-4
    discriminator_rate: Annotated[float, Field(gt=0.0, description="Learning rate of the discriminator.")] = 2e-4
    beta1: Annotated[float, Field(ge=0.0, lt=1.0, description="First Adam coefficient.")] = 0.5
    warmup_steps: Annotated[int, Field(ge=0, description="Steps over which the rates rise from 0.")] = 100
    decay: Annotated[
        Literal["none", "linear", "cosine"],
        Field(description="How the rates fall to `final_rate` of themselves after `decay_from`."),
    ] = "cosine"
    decay_from: Annotated[Fraction, Field(description="Part of all steps after which the rates fall.")] = 0.2
    final_rate: Annotated[Fraction, Field(description="What is left of the rates at the end.")] = 0.0
    clip: Annotated[
        float | None, Field(gt=0.0, description="Largest norm of a network's gradient; null: not clipped.")
    ] = None
    ema: Annotated[
        float | None,
        Field(
            ge=0.0,
            lt=1.0,
            description="Decay a step of the exponential moving average of the generator, which is what is judged and "
            "saved; null: the generator itself.",
        ),
    ] = 0.999


@with_config(STRICT)
@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept of a run, under `output`."""

    metric: Annotated[
        Metric,
        Field(
            description="The validation metric by which the best generator is chosen (see `inpaint_core.metrics.protocols`)."
        ),
    ] = "table_psnr"
    steps: Annotated[
        int | None,
        Field(ge=1, description="A checkpoint every so many steps besides the one after each epoch; null: none."),
    ] = None


@with_config(STRICT)
@dataclass(frozen=True)
class TrainScalingConfig:
    """How the work is spread."""

    workers: Annotated[
        int | None,
        Field(ge=1, description="Processes that share each batch; null: one for each GPU, or one on the CPU."),
    ] = None
    cpus_per_worker: Annotated[
        int | None, Field(ge=1, description="CPUs, and torch threads, of each; null: all there are, divided.")
    ] = None
    device: Annotated[Literal["auto", "cpu", "cuda"], Field(description="`auto`: GPUs where the cluster has any.")] = (
        "auto"
    )
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(
            description="Of convolutions (weights, losses and optimisers stay float32). `auto`: bfloat16 where the "
            "device computes it natively."
        ),
    ] = "auto"
    channels_last: Annotated[bool, Field(description="Memory layout in which convolutions are faster.")] = True
    compile: Annotated[bool, Field(description="Compile both networks with torch.compile.")] = False
    sync_batchnorm: Annotated[
        bool, Field(description="BatchNorm over the whole batch instead of each worker's part (GPUs only).")
    ] = False
    max_failures: Annotated[
        int, Field(ge=0, description="Times that the workers are started again after one of them died.")
    ] = 3
    wait_for_nodes: Annotated[
        float,
        Field(
            ge=0,
            description="On a cluster that grows by itself: seconds to wait for nodes with what is asked for. 0: what is not there "
            "is refused at once.",
        ),
    ] = 0.0


@with_config(STRICT)
@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    data: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder or bucket of training photographs or of `.tar` shards of them, or one shard (a path or a URI); `*` "
            "and `?` work in its last part.",
        ),
    ] = "data/miniplaces/train"
    output: Annotated[
        str, Field(min_length=1, description="Folder or bucket prefix of checkpoints, history and pictures; a URI.")
    ] = "runs/base"
    s3: Annotated[S3Options, Field(description="How `s3://` URIs are reached.")] = field(default_factory=S3Options)
    epochs: Annotated[int, Field(ge=1, description="Passes over the training images.")] = 40
    batch: Annotated[int, Field(ge=2, description="Images of a step, over all workers together.")] = 64
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Everything random follows from it.")] = 0
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    network: GeneratorSpec = field(default_factory=ContextEncoderSpec)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    holes: HolesConfig = field(default_factory=HolesConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    scaling: TrainScalingConfig = field(default_factory=TrainScalingConfig)
