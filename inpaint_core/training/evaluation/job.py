"""Fill the holes of a set of photographs by every row, measure, and keep the results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.config import to_yaml
from inpaint_core.device import choose_device
from inpaint_core.errors import ConfigError
from inpaint_core.hole_masks.sampler import evaluation_holes
from inpaint_core.hole_masks.shape_file import load_object_shapes
from inpaint_core.hole_masks.shapes import ObjectShapes
from inpaint_core.images.collections.config import ReadingConfig
from inpaint_core.images.collections.photographs import read_source
from inpaint_core.images.collections.sources import Failure, Photograph, Source, as_sources, evenly, list_photographs
from inpaint_core.images.tensors import channels_first
from inpaint_core.metrics.protocols import measure
from inpaint_core.networks.spec import IMAGE_SIZE, hole_size, overlap
from inpaint_core.progress import PrintLine, Progress
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.evaluation.config import EvaluateConfig, check_config
from inpaint_core.training.evaluation.fills import Fills, NetworkFill, build_fills
from inpaint_core.training.evaluation.results import Measured, join, markdown, to_table
from inpaint_core.training.evaluation.sheet import sheet, with_holes
from inpaint_core.training.run_folder import check_apart

CONFIG = "evaluate.yaml"
TABLE = "table.md"
PER_IMAGE = "per_image.parquet"
SHEET = "sheet.png"

_FAILURES_NAMED = 5

NOTES = """\
`table`: whole image with the filled hole, values -1 to 1. `hole`: pixels of the hole only, values 0 to 1; its SSIM is \
the mean over the windows wholly inside the hole, values -1 to 1, and "SSIM centred" over those around its pixels, values 0 \
to 1. Figures of different protocols, hole kinds or hole sizes are not comparable. Sharpness: ratio of the fine detail in \
the hole to that of the photographs; 1 is ideal, less is blurred, more is noisy. Grid: the same of the power at periods of 2, 4 \
and 8 pixels; more than 1 is a pattern of dots.
"""


@dataclass(frozen=True)
class _Judged:
    """What became of one source: figures (None: no image could be read), chosen pictures, and failures.

    `pictures` holds, by the index of a photograph, the images of its line in the sheet, each (H, W, 3) uint8.
    """

    measured: Measured | None
    pictures: Mapping[int, Sequence[NDArray[np.uint8]]]
    failures: Sequence[Failure]
    enlarged: int

    def statuses(self) -> Iterator[str]:
        """One for each image, for the progress."""
        yield from ["judged"] * (len(self.measured.keys) if self.measured else 0)
        yield from ["unreadable"] * len(self.failures)


def run_evaluation(config: EvaluateConfig, print_line: PrintLine) -> str:
    """Judge every checkpoint and fill; writes `output`, replacing an earlier evaluation there.

    The hole of an image follows from its place in the order of all keys, so that folders and tars of the same
    photographs, with or without `limit`, give the same holes.

    Args:
        config: what to judge, on what.
        print_line: takes lines for a person.

    Returns:
        The content of `table.md`.

    Raises:
        ConfigError: wrong settings, no photographs, or none that can be read.
        WeightsError: a checkpoint is missing, is not one of this project, or cannot fill these holes.
        StorageError, ObjectError: a store cannot be used, or the results cannot be written.
    """
    check_config(config)
    device = choose_device(config.device, "device")
    fills = build_fills(config, device)
    objects = None
    if config.holes == "objects" and config.objects is not None:
        objects = load_object_shapes(config.objects, config.s3, name="objects")
    storage, photographs = list_photographs(config.data, config.s3, ReadingConfig.extensions, None)
    places = evenly(len(photographs), config.limit)
    output = open_storage(config.output, config.s3)
    check_apart("data", config.data, output, config.s3)
    output.write(CONFIG, to_yaml(config).encode())  # before the work, so that a wrong output shows now
    for key in (TABLE, PER_IMAGE, SHEET):
        output.delete(key)
    print_line(
        f"evaluating {', '.join(fills.by_label)} on {len(places):,} photographs of {config.data}, holes={config.holes}"
    )
    judge = _Judge(config, fills, objects, device, photographs, places)
    chosen = [photographs[place] for place in places]
    sources = as_sources(storage, chosen, ReadingConfig.max_pixels, per_block=config.batch)
    parts = judge.all(sources, Progress(len(places), print_line))
    failures = sorted(failure for part in parts for failure in part.failures)
    if failures:
        print_line(_left_out(failures, len(places)))
    enlarged = sum(part.enlarged for part in parts)
    if enlarged:
        print_line(f"{enlarged:,} photographs have fewer than {fills.size} pixels on a side and were enlarged")
    measured = [part.measured for part in parts if part.measured]
    if not measured:
        raise ConfigError(f"data: {_left_out(failures, len(places))}; nothing is left to evaluate")
    return _write(config, output, join(measured), parts, fills)


class _Judge:
    """Everything that judging one source needs. Used from several threads."""

    def __init__(
        self,
        config: EvaluateConfig,
        fills: Fills,
        objects: ObjectShapes | None,
        device: torch.device,
        photographs: Sequence[Photograph],
        places: Sequence[int],
    ) -> None:
        self._config, self._fills, self._size, self._objects, self._device = (
            config,
            fills.by_label,
            fills.size,
            objects,
            device,
        )
        self._places = {photographs[place].key: place for place in places}
        self._shown = {places[number] for number in evenly(len(places), config.pictures)}

    def all(self, sources: Sequence[Source], progress: Progress) -> list[_Judged]:
        """The sources, in their order, by as many threads as the config says."""
        threads = self._config.threads or os.cpu_count() or 1
        before = torch.get_num_threads()
        # Each thread works on a batch of its own; torch's threads would take their cores away.
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        parts = []
        try:
            for part in pool.map(self, sources):
                parts.append(part)
                progress.add(part.statuses())
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)
            progress.close()
        return parts

    def __call__(self, source: Source) -> _Judged:
        block = read_source(source, self._size)
        if not block.keys:
            return _Judged(None, {}, block.failures, 0)
        indices = [self._places[key] for key in block.keys]
        masks = self._holes(indices)
        truth, holes = channels_first(block.pixels).to(self._device), torch.from_numpy(masks)[:, None].to(self._device)
        shown = [number for number, index in enumerate(indices) if index in self._shown]
        columns: dict[str, dict[str, Tensor]] = {}
        pictures = [block.pixels[shown], with_holes(block.pixels[shown], masks[shown])]
        for row, fill in self._fills.items():
            filled = fill(block.pixels, masks)
            figures = measure(truth, channels_first(filled).to(self._device), holes)
            columns[row] = {name: values.cpu() for name, values in figures.items()}
            pictures.append(filled[shown])
        by_index = {indices[number]: [images[line] for images in pictures] for line, number in enumerate(shown)}
        return _Judged(Measured(block.keys, indices, columns), by_index, block.failures, block.enlarged)

    def _holes(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        config, size = self._config, self._size
        if config.holes == "center":
            hole = config.hole_size * size // IMAGE_SIZE
            begin = (size - hole) // 2
            masks = np.zeros((len(indices), size, size), dtype=np.bool_)
            masks[:, begin : begin + hole, begin : begin + hole] = True
            return masks
        return evaluation_holes(config.holes, indices, seed=config.seed, objects=self._objects, size=size)


def _note_on_bands(config: EvaluateConfig, fills: Fills) -> str:
    """What a reader should know of `center` networks, which see part of a large hole."""
    central = [row for row, fill in fills.by_label.items() if isinstance(fill, NetworkFill) and fill.central]
    size = fills.size
    band = config.hole_size * size // IMAGE_SIZE // 2 - (hole_size(size) // 2 - overlap(size))
    if not central or band == 0:
        return ""
    return f"{', '.join(central)}: given the outer {band} pixels of the hole, which the other rows do not see.\n"


def _left_out(failures: Sequence[Failure], total: int) -> str:
    named = "; ".join(f"{key}: {reason}" for key, reason in failures[:_FAILURES_NAMED])
    more = f"; and {len(failures) - _FAILURES_NAMED:,} more" if len(failures) > _FAILURES_NAMED else ""
    return f"{len(failures):,} of {total:,} photographs cannot be used and are left out: {named}{more}"


def _write(config: EvaluateConfig, output: Storage, measured: Measured, parts: Sequence[_Judged], fills: Fills) -> str:
    with output.open_write(PER_IMAGE) as file:
        pq.write_table(to_table(measured, config.holes, config.seed), file, compression="zstd")
    lines = sorted((index, images) for part in parts for index, images in part.pictures.items())
    if lines:
        labels = ["photograph", "with hole", *measured.columns]
        output.write(
            SHEET, sheet(labels, [np.stack(column) for column in zip(*(images for _, images in lines), strict=True)])
        )
    holes = f"holes={config.holes}, " + (
        f"hole_size={config.hole_size}" if config.holes == "center" else f"seed={config.seed}"
    )
    size = f"{fills.size}x{fills.size} pixels, " if fills.size != IMAGE_SIZE else ""
    text = (
        f"{len(measured.keys):,} photographs of {config.data}; {size}{holes}.\n\n"
        f"{markdown(measured, central=config.holes == 'center')}\n{NOTES}{_note_on_bands(config, fills)}"
    )
    output.write(TABLE, text.encode())  # last: where it is, all is
    return text
