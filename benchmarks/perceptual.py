"""Distances of fills to their photographs in the feature maps of a network: `python benchmarks/perceptual.py NETWORK.onnx MAP [MAP ...]
--data URI [--limit 1000] [--mean 104 117 123] [--bgr] [key=value ...]`.

For figures that no fill was trained on, take a network that was in no loss. The photographs are a folder or a tar; `key=value` are
settings of `inpaint evaluate`, such as `holes=objects`, `objects=shapes.parquet`, `checkpoints=[a.safetensors]`, `fills=[telea]`. The
maps of each layer are scaled to length 1 at each place and compared by the mean squared difference over the places whose cell
holds a pixel of the hole (Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018, without
weights learnt from judgements). The JSON has the mean for each fill and map; less is better.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from inpaint_core.config import load_config
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.hole_masks.shape_file import load_object_shapes
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.photographs import read_source
from inpaint_core.images.collections.sources import as_sources, evenly, list_photographs
from inpaint_core.training.evaluation.config import EvaluateConfig
from inpaint_core.training.evaluation.fills import build_fills

_BATCH = 16


class Network:
    """The maps of an ONNX network that takes squares, (n, side, side, 3) or (n, 3, side, side) float32."""

    def __init__(self, file: Path, maps: Sequence[str], mean: Sequence[float], *, bgr: bool) -> None:
        model = onnx.load(file)
        known = {output for node in model.graph.node for output in node.output}
        for name in maps:
            if name not in known:
                raise SystemExit(f"{file} has no map {name!r}; it has {', '.join(sorted(known))}")
            model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), options)
        given = self._session.get_inputs()[0]
        self._name, self._last = given.name, given.shape[-1] == 3
        self._side = given.shape[1] if self._last else given.shape[2]
        self._maps, self._mean, self._bgr = list(maps), np.array(mean, np.float32), bgr

    def __call__(self, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Each (n, C, h, w), of length 1 at each place; images (n, H, W, 3) uint8 RGB."""
        shown = np.stack([cv2.resize(image, (self._side, self._side)) for image in images])
        values = (shown[..., ::-1] if self._bgr else shown).astype(np.float32) - self._mean
        values = values if self._last else values.transpose(0, 3, 1, 2)
        found = self._session.run(self._maps, {self._name: np.ascontiguousarray(values)})
        return [maps / np.maximum(np.linalg.norm(maps, axis=1, keepdims=True), 1e-6) for maps in found]


def distances(
    network: Network, truth: NDArray[np.uint8], filled: NDArray[np.uint8], masks: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(n, maps): the mean over the places of the hole."""
    columns = []
    for one, other in zip(network(truth), network(filled), strict=True):
        squares = np.square(one - other).sum(axis=1)
        height, width = squares.shape[1:]
        shares = np.stack(
            [cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA) for mask in masks]
        )
        chosen = shares > 0
        columns.append((squares * chosen).sum(axis=(1, 2)) / np.maximum(chosen.sum(axis=(1, 2)), 1))
    return np.stack(columns, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("maps", nargs="+")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--mean", type=float, nargs=3, default=(0.0, 0.0, 0.0))
    parser.add_argument("--bgr", action="store_true")
    parser.add_argument("--settings", nargs="*", default=[], metavar="key=value", help="settings of `inpaint evaluate`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = load_config(EvaluateConfig, None, [f"data={arguments.data}", *arguments.settings])
    network = Network(arguments.network, arguments.maps, arguments.mean, bgr=arguments.bgr)
    fills = build_fills(config, torch.device("cpu"))
    objects = load_object_shapes(config.objects, config.s3, name="objects") if config.objects else None
    storage, photographs = list_photographs(config.data, config.s3, ReadingConfig.extensions, None)
    places = evenly(len(photographs), arguments.limit)
    index_of = {photographs[place].key: place for place in places}
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in fills.by_label}
    for source in as_sources(
        storage, [photographs[place] for place in places], ReadingConfig.max_pixels, per_block=_BATCH
    ):
        block = read_source(source, fills.size)
        masks = evaluation_holes(
            config.holes, [index_of[key] for key in block.keys], seed=config.seed, objects=objects, size=fills.size
        )
        for name, fill in fills.by_label.items():
            found[name].append(distances(network, block.pixels, fill(block.pixels, masks), masks))
    means: dict[str, Any] = {
        name: {
            key: round(float(value), 5)
            for key, value in zip(arguments.maps, np.concatenate(parts).mean(axis=0), strict=True)
        }
        for name, parts in found.items()
    }
    print(json.dumps({"holes": config.holes, "images": len(places), "distances": means}, indent=2))


if __name__ == "__main__":
    main()
