"""The config of a training run (`inpaint train`): every key, its default and what it means.

The descriptions are the only documentation of a key: `--help` prints them, and the pages in `docs/reference` are generated from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.hole_masks.kinds import HoleKind
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.metrics.names import Metric
from inpaint_core.networks.spec import ContextEncoderSpec, GeneratorSpec
from inpaint_core.storage import S3Options
from inpaint_core.training.scaling_config import TrainScalingConfig

Weight = Annotated[float, Field(ge=0.0)]

Term = Literal["adversarial", "l1", "l2", "ssim", "ms_ssim", "features", "feature_matching"]
"""The terms of the generator's loss (`losses.generator_loss`); all but the first have the name of their weight in `LossConfig`."""


@with_config(STRICT)
@dataclass(frozen=True)
class ValidationConfig:
    """Validation after each epoch."""

    data: Annotated[
        str | None,
        Field(
            description="URI of the validation images; null: `images` photographs of `data` are held out from training."
        ),
    ] = None
    images: Annotated[int, Field(ge=1, description="Number of validation images.")] = 1_000
    pictures: Annotated[int, Field(ge=1, le=64, description="Images in the sample grid of each epoch.")] = 8
    first: Annotated[
        bool,
        Field(
            description="Validation before the first step too: epoch 0 in the history, the pictures and TensorBoard."
        ),
    ] = False


@with_config(STRICT)
@dataclass(frozen=True)
class DiscriminatorConfig:
    """Discriminator network, used in training only."""

    kind: Annotated[
        Literal["dcgan", "patch"],
        Field(
            description="`dcgan`: one judgement per image (Radford et al. 2016). `patch`: one per 8x8 pixels, each of 54x54 (Isola et al. 2017); those without a pixel of the hole count as real (Suvorov et al. 2022)."
        ),
    ] = "dcgan"
    width: Annotated[int, Field(ge=1, description="Channels of the largest feature maps.")] = 64


@with_config(STRICT)
@dataclass(frozen=True)
class HolesConfig:
    """Holes of the training images."""

    kinds: Annotated[
        tuple[HoleKind, ...],
        Field(
            min_length=1,
            description="Kinds of holes: `center` (the central square of half the side), `box`, `strokes`, LaMa's `thin`, `medium`, `thick`, or `objects` (shapes of real objects).",
        ),
    ] = ("center",)
    weights: Annotated[
        tuple[Annotated[float, Field(gt=0.0)], ...] | None,
        Field(description="Relative frequency of each kind, in any unit; null: equal frequencies."),
    ] = None
    objects: Annotated[
        str | None,
        Field(description="Parquet file of object shapes, created from any photographs by `inpaint shapes`."),
    ] = None


@with_config(STRICT)
@dataclass(frozen=True)
class LossConfig:
    """L = adversarial_weight L_adv + feature_matching L_fm + reconstruction_weight (l1 L1 + l2 L2 + ssim (1 - SSIM) + ms_ssim (1 - MS-SSIM) + features L_f)."""

    adversarial: Annotated[
        Literal["bce", "lsgan"],
        Field(
            description="Adversarial loss: `bce` (binary cross-entropy) or `lsgan` (least squares, Mao et al. 2017)."
        ),
    ] = "bce"
    adversarial_weight: Annotated[Weight, Field(description="Weight of the adversarial term.")] = 0.001
    reconstruction_weight: Annotated[Weight, Field(description="Weight of the reconstruction term.")] = 0.999
    l1: Annotated[Weight, Field(description="Weight of the mean absolute error.")] = 0.0
    l2: Annotated[Weight, Field(description="Weight of the mean squared error.")] = 0.0
    ssim: Annotated[Weight, Field(description="Weight of 1 - SSIM.")] = 0.0
    ms_ssim: Annotated[Weight, Field(description="Weight of 1 - MS-SSIM.")] = 0.0
    features: Annotated[
        Weight,
        Field(
            description="Weight of the distance between filled image and photograph in the feature maps of a detector (perceptual loss; Johnson et al. 2016)."
        ),
    ] = 0.0
    features_weights: Annotated[
        str,
        Field(
            min_length=1,
            description="Network of these feature maps: checkpoint of ultralytics, as in `detector.weights` of a removal job. It is not changed, and not part of the checkpoints.",
        ),
    ] = "yolov8n-seg.pt"
    feature_matching: Annotated[
        Weight,
        Field(
            description="Weight of the distance in the feature maps of the discriminator (Wang et al. 2018); needs `discriminator.kind=patch`."
        ),
    ] = 0.0
    r1: Annotated[
        Weight,
        Field(
            description="Weight of the R1 penalty: the squared gradient of the discriminator on photographs (Mescheder et al. 2018), every 16 steps."
        ),
    ] = 0.0
    adversarial_from: Annotated[
        Fraction,
        Field(description="Fraction of all steps before the adversarial terms (with feature matching) begin."),
    ] = 0.0
    l1_window: Annotated[
        Literal["none", "gaussian"],
        Field(
            description="Weights of L1's errors: equal, or `gaussian` windows as wide as the coarsest scale of MS-SSIM, for mixtures with `ms_ssim` (Zhao et al. 2017: 0.84 MS-SSIM + 0.16 L1)."
        ),
    ] = "none"
    overlap_weight: Annotated[
        float,
        Field(
            gt=0.0,
            description="`center`: weight in L1 and L2 of the outer 4 pixels of the square (of 64; 8 of 128, 16 of 256), which the generator sees.",
        ),
    ] = 10.0
    normalise_overlap: Annotated[
        bool,
        Field(
            description="`center`: divide these weights by their mean (3.11 with `overlap_weight=10`), so that L1 and L2 keep the share that their weights state relative to (MS-)SSIM, which has no such weights."
        ),
    ] = False
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
    warmup_steps: Annotated[int, Field(ge=0, description="Steps of linear warm-up of the learning rates from 0.")] = 100
    decay: Annotated[
        Literal["none", "linear", "cosine"],
        Field(description="Schedule of the learning rates after `decay_from`, down to `final_rate`."),
    ] = "cosine"
    decay_from: Annotated[Fraction, Field(description="Fraction of all steps after which the decay begins.")] = 0.2
    final_rate: Annotated[Fraction, Field(description="Final learning rates, as a fraction of the initial ones.")] = 0.0
    clip: Annotated[
        float | None, Field(gt=0.0, description="Maximum norm of a network's gradient; null: no clipping.")
    ] = None
    ema: Annotated[
        float | None,
        Field(
            ge=0.0,
            lt=1.0,
            description="Decay per step of the exponential moving average (EMA) of the generator; the average is validated and saved. null: no EMA, the generator itself.",
        ),
    ] = 0.999
    batch_scaling: Annotated[
        Literal["none", "linear", "sqrt"],
        Field(
            description="Learning rates follow the batch: times `batch` / `reference_batch` (`linear`, Goyal et al. 2017) or its square root (`sqrt`, Malladi et al. 2022, for Adam). With either, the decay of the EMA becomes `ema` ** (`batch` / `reference_batch`) (Busbridge et al. 2023)."
        ),
    ] = "none"
    reference_batch: Annotated[
        int, Field(ge=1, description="Batch size that the learning rates and `ema` are set for, with `batch_scaling`.")
    ] = 64


@with_config(STRICT)
@dataclass(frozen=True)
class CheckpointConfig:
    """Checkpoints of a run, under `output`."""

    metric: Annotated[
        Metric,
        Field(description="Validation metric that selects the best generator (see `inpaint_core.metrics.protocols`)."),
    ] = "table_psnr"
    steps: Annotated[
        int | None,
        Field(
            ge=1, description="Steps between checkpoints within an epoch, besides the one after each epoch; null: none."
        ),
    ] = None
    minutes: Annotated[
        float | None,
        Field(
            gt=0.0,
            description="Minutes between checkpoints, besides those after epochs and `steps`; null: none. With several workers, a checkpoint averages their BatchNorm statistics, so that a repetition differs slightly.",
        ),
    ] = None
    top: Annotated[
        int,
        Field(
            ge=1,
            description="Number of best generators that are kept. The best one is `best.safetensors`; if more than one, each is also `top/epoch-NNNN.safetensors`.",
        ),
    ] = 1


@with_config(STRICT)
@dataclass(frozen=True)
class WatchConfig:
    """Single steps of a run, seen by its first worker."""

    scalars: Annotated[
        int | None,
        Field(
            ge=1,
            description="Steps between points of the TensorBoard curves `step/...`: losses, learning rates, gradient norms (after clipping), the discriminator's mean logits on real and filled images (not with `scaling.compile`), memory, seconds of waiting for a batch; null: none. Each point synchronises the GPU.",
        ),
    ] = None
    profile: Annotated[
        int,
        Field(
            ge=0,
            le=1000,
            description="Steps of which torch.profiler writes a trace into `profile/`, for Perfetto or chrome://tracing, after the first 10 of a start; 0: none.",
        ),
    ] = 0


@with_config(STRICT)
@dataclass(frozen=True)
class TrainConfig:
    """One training run."""

    data: Annotated[
        str,
        Field(
            min_length=1,
            description="Training photographs: a folder or bucket of images or `.tar` shards, or one shard (a path or a URI); `*` and `?` are allowed in the last path component.",
        ),
    ] = "data/miniplaces/train"
    output: Annotated[
        str,
        Field(
            min_length=1,
            description="Folder or bucket prefix of checkpoints, history and sample images (a path or a URI).",
        ),
    ] = "runs/base"
    s3: Annotated[S3Options, Field(description="Access to `s3://` URIs.")] = field(default_factory=S3Options)
    epochs: Annotated[int, Field(ge=1, description="Passes over the training images.")] = 40
    batch: Annotated[
        int | None,
        Field(
            ge=2,
            description="Batch size: images per step, over all workers; null: `batch_per_worker` times the workers.",
        ),
    ] = 64
    batch_per_worker: Annotated[
        int | None,
        Field(
            ge=1,
            description="Images per step and worker, with `batch=null`: the batch grows with the number of workers of the first start, and a resumed run keeps it; null: each worker takes its share of `batch`.",
        ),
    ] = None
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Random seed of the whole run.")] = 0
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    network: GeneratorSpec = field(default_factory=ContextEncoderSpec)
    initial: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Initial weights of the generator: an exported or saved `.safetensors` file, the `last.pt` or the output folder of a run (a path or a URI), or the name of the network shipped with the project, `inpaint-unet`; null: random weights. `network` must match the file, except for the size of a U-Net. A resumed run uses its own checkpoint.",
        ),
    ] = None
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    holes: HolesConfig = field(default_factory=HolesConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)
    scaling: TrainScalingConfig = field(default_factory=TrainScalingConfig)

    @property
    def global_batch(self) -> int:
        """`batch`, of a config in which it is a number: of a run that has begun (`sharing.with_batch`)."""
        assert self.batch is not None
        return self.batch
