"""What fills holes: the interfaces of an inpainting model and of its settings."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from inpaint_core.errors import WeightsError
from inpaint_core.networks.weights.load import WeightsReference

if TYPE_CHECKING:
    import torch


class InpaintingModel(Protocol):
    """Fills masked pixels of windows, which `inpaint_core.inpainting.inpainter.Inpainter` cuts from images of any size."""

    @property
    def window(self) -> int | None:
        """Side in pixels of the square windows that the model is given; None: any width and height."""
        ...

    @property
    def central(self) -> bool:
        """Whether only the central half (`window / 2` square) is predicted, so that the part to fill lies within it."""
        ...

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        """Fill windows; networks run all of them in one forward pass.

        The result does not depend on what the images hold under their masks.

        Args:
            images: each (h, w, 3) uint8 RGB.
            masks: each (h, w) bool, True = fill.

        Returns:
            Each (h, w, 3) uint8; valid where the mask is True (within the central half, for `central` models).

        Raises:
            ImageError: the fill of a window is not finite (stage `inpaint`).
        """
        ...


@dataclass(frozen=True, eq=False)
class SmallFill:
    """A window at the size that it has in the image, and what a model made of it at its own.

    Args:
        photograph: (n, n, 3) uint8 RGB; what it holds under the mask has no effect.
        mask: (n, n) bool, True = fill.
        small: (s, s, 3) uint8, the window as `fill` got it.
        small_mask: (s, s) bool.
        filled: (s, s, 3) uint8, what `fill` gave; valid under `small_mask` only.
        own: whether the photograph is a copy that may be overwritten with the result.
    """

    photograph: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    small: NDArray[np.uint8]
    small_mask: NDArray[np.bool_]
    filled: NDArray[np.uint8]
    own: bool = False


@runtime_checkable
class AdjustableModel(InpaintingModel, Protocol):
    """A model that can share its network with one of other settings."""

    def adjusted(self, settings: InpainterSettings) -> InpaintingModel | None:
        """The model of other settings and the same weights, without loading them again; None: these need a network of their own."""
        ...


@runtime_checkable
class EnlargingModel(InpaintingModel, Protocol):
    """A model that itself brings its fill to the size of the photograph; the fill of any other is resized."""

    def enlarge(self, fills: Sequence[SmallFill]) -> list[NDArray[np.uint8]]:
        """Fills at the size of their photographs.

        Returns:
            Each (n, n, 3) uint8; valid where the photograph's mask is True.
        """
        ...


class InpainterSettings(ABC):
    """What the settings of every inpainter offer: the base class of the dataclasses in the union `InpainterConfig`.

    An inpainter is one module with its settings, whose `build` imports what is heavy (torch, OpenCV), since settings are
    read before anything else is loaded. It is known to every job once its settings are in the union.
    """

    added: ClassVar[tuple[str, ...]] = ()
    """As in `DetectorSettings`: with their defaults these settings are not part of the hash of a job's settings."""

    @property
    def result_version(self) -> int:
        """Raised whenever the code changes what these settings make of an image: part of the hash of a job's settings, unless 0."""
        return 0

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

    @abstractmethod
    def build(self, weights: bytes | None, *, device: torch.device, autocast: bool) -> InpaintingModel:
        """The model, ready to fill.

        Args:
            weights: content of `weights_file()`.
            device: where networks run.
            autocast: whether networks run in bfloat16 autocast.

        Raises:
            WeightsError: the weights are missing or not of this model.
        """


def required_weights(weights: bytes | None, kind: str) -> bytes:
    """The weights, which an inpainter of this kind requires.

    Raises:
        WeightsError: there are none.
    """
    if weights is None:
        raise WeightsError(f"The {kind} inpainter needs weights: set inpainter.weights to a path or URI.")
    return weights
