"""What finds the objects of an image: the interfaces of a detector and of its settings."""

from __future__ import annotations

import posixpath
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inpaint_core.networks.weights.load import WeightsReference
from inpaint_core.storage import S3Options

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Region:
    """Some pixels of an image, cut out of it.

    Args:
        mask: (h, w) bool, True on the pixels; it lies wholly inside the image.
        top: row of the image that the first row of `mask` is.
        left: column of the image that the first column of `mask` is.
    """

    mask: NDArray[np.bool_]
    top: int
    left: int


@dataclass(frozen=True)
class Detection:
    """One object, with its mask cut out of the image, so that many objects of a large photograph stay small.

    Args:
        label: name of the class.
        confidence: 0 to 1.
        box: (x0, y0, x1, y1) in pixels of the image, inside it.
        mask: (h, w) bool, True on the object; it lies wholly inside the image.
        top: row of the image that the first row of `mask` is.
        left: column of the image that the first column of `mask` is.
        uncertain: pixels in and beside the object that may belong to it; None where the detector does not know.
    """

    label: str
    confidence: float
    box: tuple[float, float, float, float]
    mask: NDArray[np.bool_]
    top: int
    left: int
    uncertain: Region | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels of the object."""
        return int(np.count_nonzero(self.mask))


@dataclass(frozen=True, eq=False)
class Features:
    """What a network makes of an image on the way to its objects.

    Args:
        values: (C, h, w) float32, over the whole image.
    """

    values: NDArray[np.float32]


class Detector(Protocol):
    """Finds the objects to remove."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        """Find the objects of several images at once.

        Args:
            images: each (H, W, 3) uint8 RGB; the sizes may differ.
            keys: the key of each image, relative to the input.

        Returns:
            For each image its objects, every one with at least one pixel.

        Raises:
            ImageError: an image of the batch cannot be processed; which one only a call with one image tells.
        """
        ...


@runtime_checkable
class DescribingDetector(Detector, Protocol):
    """A detector that can also give its features."""

    def detect_and_describe(
        self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]
    ) -> list[tuple[list[Detection], Features]]:
        """As `detect`, and the features of each image, in the same passes."""
        ...


@runtime_checkable
class AdjustableDetector(Detector, Protocol):
    """A detector that can share its network with one of other settings."""

    def adjusted(self, settings: DetectorSettings) -> Detector | None:
        """The detector of other settings and the same weights, without loading them again.

        Returns:
            None where these settings need a network of their own.

        Raises:
            ConfigError: a setting that does not fit the weights.
        """
        ...


@dataclass(frozen=True)
class FilesByKey:
    """Files that a detector reads, one for each image, found by the image's key. They may lie among the images.

    Args:
        root: folder or bucket, the setting `detector.root`.
        pattern: key of the file for an image, the setting `detector.pattern`: `{key}` is the key of the image, `{stem}`
            the key without its extension.
    """

    root: str
    pattern: str

    def key_of(self, key: str) -> str:
        """The key of the file for an image."""
        return self.pattern.replace("{key}", "\0").replace("{stem}", posixpath.splitext(key)[0]).replace("\0", key)


class DetectorSettings(ABC):
    """What the settings of every detector offer: the base class of the dataclasses in the union `DetectorConfig`.

    A detector is one module with its settings, whose `build` imports what is heavy (torch, OpenCV), since settings are
    read before anything else is loaded. It is known to every job once its settings are in the union.
    """

    looks_at_pixels: ClassVar[bool] = True
    """Whether objects are found in the pixels, so that an output can be searched for what is left."""

    unordered: ClassVar[tuple[str, ...]] = ()
    """Names of the settings, lists, whose order makes no difference to a result."""

    former_kinds: ClassVar[tuple[str, ...]] = ()
    """Earlier names of the kind, oldest first. Settings may still use them. The hash of a job's settings has the oldest, so
    that a new name does not make all images pending."""

    added: ClassVar[tuple[str, ...]] = ()
    """Names of the settings that an earlier version did not have. Their defaults give the results of that version, and are
    not part of the hash of a job's settings."""

    def weights_file(self) -> WeightsReference | None:
        """The weights that `build` needs; None: it needs none."""
        return None

    def check_weights(self, weights: bytes) -> None:  # noqa: B027 - most have nothing to look at
        """Refuse weights that `build` would refuse, as far as that shows in a second and without a model library.

        A job calls it before it starts its workers, which load the weights.

        Args:
            weights: content of `weights_file()`.

        Raises:
            UserError: that of `build`.
        """

    def files_by_key(self) -> FilesByKey | None:
        """The files that the detector reads for each image; None: it reads none."""
        return None

    def scaled_down(self, height: int, width: int) -> float:
        """By how much an image is scaled down, at least, before it is searched: 1 where all of its pixels are.

        Args:
            height: of the image, in pixels.
            width: of the image, in pixels.
        """
        return 1.0

    @abstractmethod
    def build(self, weights: bytes | None, *, s3: S3Options, device: torch.device, autocast: bool) -> Detector:
        """The detector, ready to detect.

        Args:
            weights: content of `weights_file()`.
            s3: how `s3://` URIs in the settings are reached.
            device: where a network runs.
            autocast: run a network in bfloat16 where that keeps its boxes exact.

        Raises:
            WeightsError: the weights are of another kind of network.
            ConfigError: a setting that does not fit the weights, such as a class that the network does not know.
            ValueError: `weights` is None where they are needed.
        """
