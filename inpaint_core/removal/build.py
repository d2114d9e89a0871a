"""From settings and weights to models: those of a job, and those of its further attempts, each loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inpaint_core.detection.detector import AdjustableDetector, Detector, DetectorSettings
from inpaint_core.device import in_bfloat16
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.inpainting.model import AdjustableModel, InpainterSettings, InpaintingModel
from inpaint_core.networks.weights.load import Weights
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import ModelWeights
from inpaint_core.removal.remover import ObjectRemover

if TYPE_CHECKING:
    import torch


def build_remover(
    config: RemoveConfig,
    detector_weights: Weights | None,
    inpainter_weights: Weights | None,
    *,
    device: torch.device,
    attempts: Sequence[ModelWeights] = (),
) -> ObjectRemover:
    """Both models of a config, on a device, and those of its further attempts that differ.

    Args:
        config: the settings.
        detector_weights: what `config.detector.weights_file()` refers to; `removal.job.model_weights` loads both.
        inpainter_weights: the same of `config.inpainter`.
        device: where the networks run.
        attempts: the weights of each of `config.attempts()`; `removal.job.attempt_weights` loads them. Empty: none is
            made.

    Raises:
        ConfigError, WeightsError: a class that the network does not know, weights of another kind of network.
    """
    models = _Models(config, device)
    detector, inpainter = models.detector(config, detector_weights), models.inpainter(config, inpainter_weights)
    settings = config.attempts() if attempts and not config.dry_run else ()
    others = [
        ObjectRemover(one, models.detector(one, weights), models.inpainter(one, more))
        for one, (weights, more) in zip(settings, attempts, strict=bool(settings))
    ]
    return ObjectRemover(config, detector, inpainter, others)


def build_inpainter(config: RemoveConfig, weights: Weights | None, *, device: torch.device) -> Inpainter:
    """The inpainter of a config, on a device.

    Raises:
        WeightsError: weights of another kind of network.
    """
    return _Models(config, device).inpainter(config, weights)


@dataclass
class _Models:
    """Models by their settings and weights. What was built is used again, with other settings where the model allows it."""

    config: RemoveConfig
    device: torch.device
    detectors: list[tuple[DetectorSettings, str | None, Detector]] = field(default_factory=list)
    inpainters: list[tuple[InpainterSettings, str | None, InpaintingModel]] = field(default_factory=list)

    def detector(self, config: RemoveConfig, weights: Weights | None) -> Detector:
        settings, sha256 = config.detector, weights.sha256 if weights else None
        same = [(before, one) for before, content, one in self.detectors if content == sha256]
        for before, one in same:
            if before == settings:
                return one
        adjusted = (one.adjusted(settings) for _, one in same if isinstance(one, AdjustableDetector))
        found = next((one for one in adjusted if one is not None), None)
        if found is None:
            data = weights.data if weights else None
            found = settings.build(data, s3=config.s3, device=self.device, autocast=self._autocast)
        self.detectors.append((settings, sha256, found))
        return found

    def inpainter(self, config: RemoveConfig, weights: Weights | None) -> Inpainter:
        settings, sha256 = config.inpainter, weights.sha256 if weights else None
        same = [(before, one) for before, content, one in self.inpainters if content == sha256]
        for before, one in same:
            if before == settings:
                return self._inpainter(one, config)
        adjusted = (one.adjusted(settings) for _, one in same if isinstance(one, AdjustableModel))
        found = next((one for one in adjusted if one is not None), None)
        if found is None:
            data = weights.data if weights else None
            found = settings.build(data, device=self.device, autocast=self._autocast)
        self.inpainters.append((settings, sha256, found))
        return self._inpainter(found, config)

    def _inpainter(self, model: InpaintingModel, config: RemoveConfig) -> Inpainter:
        # On CPUs larger batches save little, and an image is to have the same result whatever it shares a batch with. On GPUs
        # they are several times as fast, and sums have no fixed order anyway.
        return Inpainter(model, config.fill, apart=self.device.type == "cpu")

    @property
    def _autocast(self) -> bool:
        return in_bfloat16(self.config.scaling.precision, self.device)
