"""The network of the perceptual loss, as the settings name it. Loads no torch."""

from __future__ import annotations

from inpaint_core.detection.checkpoint_contents import check_contents
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.networks.weights.load import Weights
from inpaint_core.training.config import TrainConfig

KEY = "loss.features_weights"


def load_feature_weights(config: TrainConfig) -> Weights | None:
    """The checkpoint of the network, None where `loss.features` has no weight.

    Raises:
        WeightsError: it cannot be had, or is no checkpoint of ultralytics.
        StorageError: the store of a URI cannot be used.
    """
    if not config.loss.features:
        return None
    reference = UltralyticsConfig(weights=config.loss.features_weights).weights_file()
    weights = reference.load(config.s3, key=KEY)
    check_contents(weights.data, config.loss.features_weights, key=KEY, classes=(), boxes=True)
    return weights
