"""JPEG by DCT coefficients: the blocks that a mask touches are replaced, and all others stay as the file has them.

Nothing outside those blocks is decoded and coded again. A new block is the source's own, dequantised and transformed
back without rounding or clipping, with the fill's samples in the place of those under the mask, and quantised with the
source's table: samples beside the mask change only by what the block's new coefficients cannot say.

A sample of subsampled chroma stands for several pixels. One of which the mask covers a part is a mean of old and new;
one that it does not touch is kept, also where a decoder interpolates from it into the hole: it is the surroundings'
true colour.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inpaint_core.images.formats.samples import Samples
from inpaint_core.images.metadata.segments import SOS, walk_jpeg

_DQT = 0xDB
# libjpeg's J_COLOR_SPACE.
_GREY, _RGB, _YCC, _CMYK, _YCCK = 1, 2, 3, 4, 5
# Rows: Y, Cb, Cr of R, G, B (ITU-T T.871, section 7).
_YCC_OF_RGB = np.array(
    [[0.299, 0.587, 0.114], [-0.168735892, -0.331264108, 0.5], [0.5, -0.418687589, -0.081312411]], np.float32
)
_SIDE, _CENTRE = 8, 128
# What Huffman codes of 8-bit files can say: AC in 10 bits, and 11 bits for the difference of two DC (T.81, table F.1).
_LOWEST, _LOWEST_DC, _HIGHEST = -1023, -1024, 1023
_BLOCKS_AT_A_TIME = 4096


class NotByCoefficientsError(Exception):
    """The file cannot be written so; the message says why, as the end of a sentence."""


def with_new_blocks(stream: bytes, samples: Samples, mask: NDArray[np.bool_]) -> tuple[bytes, NDArray[np.bool_]]:
    """A JPEG file whose blocks are the source's, but for those that the mask touches.

    Coding stays what it was (sequential or progressive, Huffman or arithmetic, restart interval, tables, sampling),
    with Huffman tables made for the file.

    Args:
        stream: the source, with no more than what decides over its samples.
        samples: (H, W, C) uint8 grey, RGB or CMYK as Pillow decodes them, with the fill where the mask is True; other
            samples are not read.
        mask: (H, W) bool, True = replace.

    Returns:
        The file, and (H, W) bool: the pixels that can differ from the source's once both are decoded.

    Raises:
        NotByCoefficientsError: the package for it is not installed, or cannot read or write this file.
    """
    try:
        import jpegio  # has no wheel for some machines
    except ImportError as error:
        raise NotByCoefficientsError("the package pyjpegio is not installed") from error
    slots = _table_slots(stream)
    try:
        with _file_of(stream) as path:
            jpeg = jpegio.read(path)
        touched = _replace(jpeg, slots, samples, mask)
        jpeg.optimize_coding = 1
        for index, component in enumerate(jpeg.comp_info):
            # Those of the source's first scan, and not set for components that are not in it.
            component.dc_tbl_no = component.ac_tbl_no = int(index in (1, 2))
        with _file_of(b"") as path:
            jpegio.write(jpeg, path)
            del jpeg, component  # several bytes a pixel
            with open(path, "rb") as file:
                return file.read(), _changed(touched, mask.shape)
    except (RuntimeError, OSError, MemoryError) as error:
        raise NotByCoefficientsError(str(error).removeprefix("[JSTRUCT] ").rstrip(".") or "out of memory") from error


@contextmanager
def _file_of(data: bytes) -> Iterator[str]:
    """The path of a file with these bytes, in memory where the system has such: the library reads and writes only files."""
    if hasattr(os, "memfd_create"):
        with open(os.memfd_create("jpeg"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
            file.write(data)
            file.flush()
            yield file.name


def _table_slots(stream: bytes) -> list[int]:
    """The slots that have a quantisation table, in order, as the library lists the tables.

    Raises:
        NotByCoefficientsError: tables are defined between scans, which could be other ones for the same slot.
    """
    slots: set[int] = set()
    scans = 0
    for segment in walk_jpeg(stream):
        scans += segment.marker == SOS
        if segment.marker != _DQT:
            continue
        if scans:
            raise NotByCoefficientsError("its quantisation tables change between scans")
        payload, position = stream[segment.payload], 0
        while position < len(payload):
            slots.add(payload[position] & 15)
            position += 1 + 64 * (1 + (payload[position] >> 4))
    return sorted(slots)


def _extended(array: Samples, below: int, right: int) -> Samples:
    """(H, W) or (H, W, C) with so many copies of the last row and column, as (H, W, C); not copied where there are none."""
    if below or right:
        array = cv2.copyMakeBorder(array, 0, below, 0, right, cv2.BORDER_REPLICATE).astype(np.uint8, copy=False)
    return array if array.ndim == 3 else array[..., None]


@dataclass(frozen=True)
class _Touched:
    """Blocks (rows, columns) bool of a component that the mask touches; a sample is `down` x `across` pixels."""

    blocks: NDArray[np.bool_]
    down: int
    across: int


def _changed(components: Sequence[_Touched], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(H, W): the pixels that blocks can change."""
    height, width = shape
    changed = np.zeros(shape, np.uint8)
    for one in components:
        changed |= _reached(one.blocks, one.down, one.across)[:height, :width]
    return changed.view(np.bool_)


def _replace(jpeg: Any, slots: list[int], samples: Samples, mask: NDArray[np.bool_]) -> list[_Touched]:
    """Replace blocks in place; returns which ones, for each component."""
    height, width = mask.shape
    components = []
    # Blocks go on beyond the image, and what lies there is coded too: its last row and column.
    below, right = -height % (_SIDE * jpeg.max_v_samp_factor), -width % (_SIDE * jpeg.max_h_samp_factor)
    padded, covered = (_extended(array, below, right) for array in (samples, np.ascontiguousarray(mask).view(np.uint8)))
    for index, (component, blocks) in enumerate(zip(jpeg.comp_info, jpeg.coef_arrays, strict=True)):
        down, left_under = divmod(jpeg.max_v_samp_factor, component.v_samp_factor)
        across, left_over = divmod(jpeg.max_h_samp_factor, component.h_samp_factor)
        if left_over or left_under or component.quant_tbl_no not in slots:
            raise NotByCoefficientsError("its sampling factors are no multiples, or a table is missing")
        table = jpeg.quant_tables[slots.index(component.quant_tbl_no)].reshape(-1).astype(np.float32)
        touched = _touched(mask, down * _SIDE, across * _SIDE)
        if blocks.shape != (touched.shape[0] * _SIDE, touched.shape[1] * _SIDE):
            raise NotByCoefficientsError("its size is not that of its blocks")
        grid = _in_blocks(blocks, touched.shape, 1, 1)
        fill, under = (_in_blocks(array, touched.shape, down, across) for array in (padded, covered))
        places = np.argwhere(touched)
        for start in range(0, len(places), _BLOCKS_AT_A_TIME):
            y, x = places[start : start + _BLOCKS_AT_A_TIME].T
            chosen = under[y, :, x]
            count = _summed(chosen, down, across)[..., 0]
            total = _of_component(_summed(fill[y, :, x] * chosen, down, across), count, jpeg.jpeg_color_space, index)
            old = grid[y, :, x].reshape(len(y), -1)
            grid[y, :, x] = _mixed(old, table, total, count, down * across).reshape(-1, _SIDE, _SIDE)
        components.append(_Touched(touched, down, across))
    return components


def _in_blocks(array: NDArray[Any], shape: tuple[int, ...], down: int, across: int) -> NDArray[Any]:
    """A view of (H, W, ...) as (rows, 8 * down, columns, 8 * across, ...), for `shape` (rows, columns) blocks."""
    tall, wide = _SIDE * down, _SIDE * across
    return array[: shape[0] * tall, : shape[1] * wide].reshape(shape[0], tall, shape[1], wide, *array.shape[2:])


def _summed(pixels: NDArray[np.uint8], down: int, across: int) -> NDArray[np.uint16]:
    """(n, 8 * down, 8 * across, C) pixels summed over those of one sample: (n, 64, C)."""
    total = np.zeros((len(pixels), _SIDE, _SIDE, pixels.shape[3]), np.uint16)
    for row in range(down):
        for column in range(across):
            total += pixels[:, row::down, column::across]
    return total.reshape(len(pixels), _SIDE * _SIDE, -1)


def _touched(mask: NDArray[np.bool_], down: int, across: int) -> NDArray[np.bool_]:
    """Which blocks of `down` x `across` pixels have a pixel of the mask."""
    rows = np.logical_or.reduceat(mask, np.arange(0, mask.shape[0], down), axis=0)
    return np.logical_or.reduceat(rows, np.arange(0, mask.shape[1], across), axis=1)


def _reached(touched: NDArray[np.bool_], down: int, across: int) -> NDArray[np.uint8]:
    """The pixels of blocks, and those into which a decoder interpolates from them: one sample further."""
    pixels = np.repeat(np.repeat(touched.view(np.uint8), down * _SIDE, axis=0), across * _SIDE, axis=1)
    if down == across == 1:
        return pixels
    return cv2.dilate(pixels, np.ones((2 * down + 1, 2 * across + 1), np.uint8)).astype(np.uint8, copy=False)


def _of_component(total: NDArray[np.uint16], count: NDArray[np.uint16], space: int, index: int) -> NDArray[np.float32]:
    """Component `index`, less 128, of the sums (n, 64, C) over `count` samples each.

    The samples are as Pillow decodes them, of which it turns CMYK's ink to light.
    """
    if space in (_YCC, _YCCK) and index < 3:
        component: NDArray[np.float32] = total[..., :3].astype(np.float32) @ _YCC_OF_RGB[index]
        return component - _CENTRE * count if index == 0 else component
    if space in (_CMYK, _YCCK):
        return (255 - _CENTRE) * count.astype(np.float32) - total[..., index]
    if space in (_GREY, _RGB):
        return total[..., index] - _CENTRE * count.astype(np.float32)
    raise NotByCoefficientsError("its colour space is not known")


def _mixed(
    blocks: NDArray[np.int32],
    table: NDArray[np.float32],
    total: NDArray[np.float32],
    count: NDArray[np.uint16],
    pixels: int,
) -> NDArray[np.int32]:
    """Quantised blocks (n, 64) in which `count` of the `pixels` of each sample are replaced by ones with the sum `total`."""
    old = (blocks * table) @ _DCT
    new = old * (1 - count.astype(np.float32) / pixels) + total / pixels
    quantised = np.rint(new @ _DCT.T / table)
    quantised[:, 1:] = np.clip(quantised[:, 1:], _LOWEST, _HIGHEST)
    quantised[:, 0] = np.clip(quantised[:, 0], _LOWEST_DC, _HIGHEST)
    return quantised.astype(np.int32)


def _dct() -> NDArray[np.float32]:
    """(64, 64): coefficients of samples, both row by row; its transpose is its inverse (T.81, A.3.3)."""
    frequency, place = np.arange(_SIDE)[:, None], np.arange(_SIDE)
    matrix = np.cos((2 * place + 1) * frequency * np.pi / (2 * _SIDE)) / 2
    matrix[0] /= np.sqrt(2)
    return np.kron(matrix, matrix).astype(np.float32)


_DCT = _dct()
