"""Whether an output may be used: empty, or holding the same run. Loads no torch, so that a wrong one is reported at once."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from inpaint_core.config import to_tree, to_yaml, validate
from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.hole_masks.shapes import MAKE_ONE
from inpaint_core.images.collections.sources import names_folder
from inpaint_core.storage import MissingObject, S3Options, Storage, open_storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.sharing import check_scaling

CONFIG = "config.yaml"
LAST = "last.pt"
OWNER = "owner"

# What may change from one start of a run to the next: where things are, how the work is spread, how long it goes on.
# Not the metric and the images that it is of: the best so far could not be compared with what comes.
FREE = (
    *("output", "s3", "scaling", "epochs", "checkpoint.steps", "validation.pictures", "data", "reading.max_failed"),
    *("reading.keep", "checkpoint.minutes", "checkpoint.top", "watch", "validation.first", "loss.features_weights"),
    # What a run whose loss became NaN or infinite is told to change, to go on from its last checkpoint.
    *("optimiser.generator_rate", "optimiser.discriminator_rate", "optimiser.clip"),
)
# Free too, but whether there is one decides which images are held out.
_VALIDATION_DATA = "validation.data"


def check_config(config: TrainConfig) -> None:
    """Refuse settings that do not go together.

    Raises:
        ConfigError: names them.
    """
    check_scaling(config)
    holes, loss = config.holes, config.loss
    if config.network.output == "center" and holes.kinds != ("center",):
        raise ConfigError(
            f"holes.kinds: a network with network.output=center fills the central square only, not {', '.join(holes.kinds)}; "
            "set network.output=full"
        )
    if config.reading.stored_size < config.network.size:
        raise ConfigError(
            f"reading.stored_size: {config.reading.stored_size} is less than network.size={config.network.size}, the pixels that the "
            f"network is given; set reading.stored_size={config.network.size} or more"
        )
    if holes.weights is not None and len(holes.weights) != len(holes.kinds):
        raise ConfigError(
            f"holes.weights: {len(holes.weights)} weights for {len(holes.kinds)} kinds; give one for each"
        )
    if "objects" in holes.kinds and holes.objects is None:
        raise ConfigError(
            f"holes.objects: holes in the shape of objects need a file of shapes; {MAKE_ONE}, and give it here"
        )
    if loss.feature_matching and config.discriminator.kind != "patch":
        raise ConfigError(
            f"loss.feature_matching: needs discriminator.kind=patch, not {config.discriminator.kind}; set that, or "
            "loss.feature_matching=0"
        )
    if loss.r1 and config.scaling.compile:
        raise ConfigError(
            "loss.r1: torch.compile has no second derivatives, which the penalty needs; set scaling.compile=false or loss.r1=0"
        )
    if not loss.adversarial_weight and not (
        loss.reconstruction_weight and (loss.l1 or loss.l2 or loss.ssim or loss.ms_ssim)
    ):
        raise ConfigError("loss: all weights are 0; set loss.l1, loss.l2, loss.ssim or loss.ms_ssim")
    if loss.reconstruction_weight and not (loss.l1 or loss.l2 or loss.ssim or loss.ms_ssim):
        raise ConfigError(
            "loss: no reconstruction term has a weight; set loss.l1, loss.l2, loss.ssim or loss.ms_ssim, or reconstruction_weight=0"
        )


def check_apart(key: str, uri: str | None, output: Storage, s3: S3Options) -> None:
    """Refuse an output inside a folder of photographs: its pictures would be read as such the next time.

    Args:
        key: the config key of the photographs.
        uri: where they are; None: nowhere.
        output: the run's output.
        s3: how `s3://` URIs are reached.

    Raises:
        ConfigError: names both.
    """
    if uri is not None and names_folder(uri) and open_storage(uri, s3).contains(output):
        raise ConfigError(
            f"output: {output.uri} lies inside {key}, {uri}: its images would be read as photographs; give one outside"
        )


def claim_output(
    storage: Storage, config: Any, free: Collection[str] = FREE, begun: Callable[[Storage], bool] | None = None
) -> bool:
    """Take an output for a run, or find the run in it that goes on.

    A run of another config that left no checkpoint gives way: a start that failed, for too few images or too large a
    learning rate, can be mended in the same output.

    Args:
        storage: the output.
        config: the run's, a dataclass.
        free: the keys that may differ from those of the run that is there.
        begun: whether the output holds a checkpoint; None: it lies where a run's last one does.

    Returns:
        Whether there is a run to go on with.

    Raises:
        ConfigError: the output holds a run of another config with a checkpoint; the message names the keys that differ.
        StorageError: it cannot be read or written.
    """
    there = _stored(storage)
    if there is not None:
        here = to_tree(config)
        differing = list(_differences(_completed(there, type(config)), here, free))
        # With other keys it is no run of this version's, and nobody's to write over.
        kept = begun(storage) if begun is not None else storage.exists(LAST)
        if differing and there.keys() == here.keys() and not kept:
            there = None
        elif differing:
            shown = "; ".join(differing[:3]) + (f"; and {len(differing) - 3} more" if len(differing) > 3 else "")
            raise ConfigError(
                f"output: {storage.uri} holds a run of another config ({shown}); give another output, or delete that run"
            )
    storage.write(CONFIG, to_yaml(config).encode())
    return there is not None


@dataclass(frozen=True)
class OutputLease:
    """The right of one start to write its output, until a later start takes it.

    The workers of a driver that was killed live on for seconds, or for as long as their machine does not hear of it. What
    they would write then is not theirs any more.
    """

    storage: Storage
    token: str

    @classmethod
    def take(cls, storage: Storage) -> OutputLease:
        """Take an output, from whoever has it.

        Raises:
            ObjectError, StorageError: it cannot be written.
        """
        lease = cls(storage, uuid.uuid4().hex)
        storage.write(OWNER, lease.token.encode())
        return lease

    def check(self) -> None:
        """Refuse to write into an output that a later start has taken.

        Raises:
            StorageError: it has been, or was deleted.
            ObjectError: it cannot be read.
        """
        try:
            owner = self.storage.read(OWNER)
        except MissingObject:
            owner = b""
        if owner != self.token.encode():
            raise StorageError(
                f"output: {self.storage.uri} was taken over by a later start of this run, or deleted; this one ends. "
                "For two runs, give two outputs"
            )


def _stored(storage: Storage) -> Mapping[str, Any] | None:
    if not storage.exists(CONFIG):
        return None
    try:
        tree = yaml.safe_load(storage.read(CONFIG))
    except yaml.YAMLError:
        tree = None
    if not isinstance(tree, dict):
        raise ConfigError(
            f"output: {storage.uri}/{CONFIG} is not the config of a run; give another output, or delete it"
        )
    return tree


def _completed(there: Mapping[str, Any], schema: type[Any]) -> Mapping[str, Any]:
    """With the defaults of keys that this version added: they are what the run had. As it is where it is no such config."""
    try:
        return to_tree(validate(schema, there))
    except ConfigError:
        return there


def _differences(
    there: Mapping[str, Any], here: Mapping[str, Any], free: Collection[str], prefix: str = ""
) -> Iterator[str]:
    for key in sorted(there.keys() | here.keys(), key=str):
        path = f"{prefix}{key}"
        old, new = there.get(key), here.get(key)
        if path in free or (path == _VALIDATION_DATA and (old is None) == (new is None)):
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, free, f"{path}.")
        elif old != new:
            yield f"{path} is {old} there and {new} here"
