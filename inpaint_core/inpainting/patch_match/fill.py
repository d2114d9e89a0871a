"""Holes in photographs filled with patches of the photographs themselves, led by a coarse guess of what belongs there.

From coarse to fine, as in Wexler et al., "Space-Time Completion of Video" (TPAMI 2007): every pixel of the hole looks for
the known patch that is most like the one around it, and takes the colour that the matches of its neighbours say. The
coarse levels search all patches of the window; the finer ones take over the matches and try those of their neighbours
(Barnes et al., "PatchMatch", SIGGRAPH 2009). Matches are the more trusted the nearer they are to what is known.

Straight edges that the hole interrupts are found first, and continued (`lines`): beside them, matches are those along the edge.

Flat patches match nearly anything, and would take over: so patches are compared by how much finer detail there is in them as
well (Newson et al., "Video Inpainting of Complex Scenes", SIAM J. Imaging Sciences 2014), and by where they lie: what is
beside a hole, above all at its height, is more likely to go on in it.

Windows of one size of the finest level are searched together; masks are looked at on the host, everything else on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inpaint_core.inpainting.patch_match.exhaustive import ROUNDS, detail_of, search
from inpaint_core.inpainting.patch_match.joining import each_window, joined
from inpaint_core.inpainting.patch_match.levels import Hidden, Level, Mask, Matches, trusted
from inpaint_core.inpainting.patch_match.lines import LINES_AT, Line, find_lines, steps_along
from inpaint_core.inpainting.patch_match.neighbours import refine
from inpaint_core.inpainting.window_pixels import resize, resize_mask

COARSEST = 32
"""Side of the first level in pixels."""

FINEST = 512
"""Largest side of the last level at which anything is compared, in pixels."""

_DETAIL = 128  # side at which detail is measured
_GUESS = 1.0  # weight of a level's difference to the guess, at the coarsest level
_GUESS_FALLS = 0.8  # times this at each finer level


@dataclass(frozen=True, eq=False)
class PatchWindow:
    """A window with a hole.

    Args:
        photograph: (n, n, 3) uint8 RGB, n at least `COARSEST`; what it holds under the mask has no effect.
        mask: (n, n) bool, True = hole; one pixel at least.
        guess: (m, m, 3) uint8 or float32, 0 to 255: a picture of the whole window, of any size, that is soft or wrong in detail.
    """

    photograph: NDArray[np.uint8]
    mask: Mask
    guess: NDArray[np.uint8] | NDArray[np.float32]


def fill_with_patches(
    windows: Sequence[PatchWindow], device: torch.device, *, rounded: bool = False
) -> list[Tensor | None]:
    """Fill holes with patches of what is around them.

    Args:
        windows: of any sizes.
        device: where patches are searched.
        rounded: give uint8, a quarter of the bytes.

    Returns:
        Each (k, 3) float32 or uint8 on the device, 0 to 255: the colours of the masked pixels, row by row. None where too little is
        known to copy from.
    """
    results: list[Tensor | None] = [None] * len(windows)
    groups: dict[tuple[int, int], list[tuple[int, list[Hidden]]]] = {}
    for index, window in enumerate(windows):
        levels = _levels(window.mask)
        if levels:
            groups.setdefault((levels[0].size, levels[-1].size), []).append((index, levels))
    for group in groups.values():
        chosen = [windows[index] for index, _ in group]
        levels = [_together(same) for same in zip(*(levels for _, levels in group), strict=True)]
        matches = _matches(chosen, levels, device)
        for (index, _), window, found in zip(group, chosen, each_window(matches), strict=True):
            results[index] = joined(window.photograph, window.mask, found, rounded=rounded)
    return results


def _levels(mask: Mask) -> list[Hidden]:
    """The levels of a window, from the first in which a patch is known, the coarsest first; none where that is too late."""
    finest = COARSEST
    while 2 * finest <= mask.shape[0] and finest < FINEST:
        finest *= 2
    levels = [Hidden(finest, resize_mask(mask, finest, finest)[None])]
    while levels[-1].size > COARSEST:
        levels.append(levels[-1].halved())
    while levels and not (levels[-1].sources.any() and levels[-1].size in ROUNDS):
        levels.pop()
    return levels[::-1]


def _together(levels: Sequence[Hidden]) -> Hidden:
    """Windows of one size as one level."""
    return levels[0] if len(levels) == 1 else Hidden(levels[0].size, np.concatenate([level.masks for level in levels]))


def _matches(windows: Sequence[PatchWindow], levels: Sequence[Hidden], device: torch.device) -> Matches:
    """The matches at the finest of the levels."""
    finest = levels[-1]
    photographs = np.stack([resize(window.photograph, finest.size, finest.size) for window in windows])
    colours = torch.from_numpy(photographs).to(device).permute(0, 3, 1, 2).float()
    hidden = torch.from_numpy(finest.masks).to(device)[:, None]
    # What is under the masks must not reach anything: not the levels, and not the means of detail.
    colours = colours.masked_fill(hidden, 0.0)
    detail = detail_of(colours, hidden, min(_DETAIL, finest.size))
    matches: Matches | None = None
    # At the coarsest level nothing follows them.
    followed = finest.size > COARSEST
    lines = [_lines_of(*window) if followed else [] for window in zip(photographs, finest.masks, strict=True)]
    guesses = [torch.from_numpy(np.ascontiguousarray(window.guess)).to(device) for window in windows]
    for masks, near in zip(levels, _halved(colours, levels), strict=True):
        side = masks.size
        level = Level(masks, near)
        if side in ROUNDS:
            guess_weight = _GUESS * _GUESS_FALLS ** ((side // COARSEST).bit_length() - 1)
            guess = torch.cat([_resized(guess.permute(2, 0, 1)[None].float(), side) for guess in guesses]).clamp(0, 255)
            matches = search(level, guess, _resized(detail, side), guess_weight, matches)
        else:
            assert matches is not None
            matches = refine(level, matches)
        if any(lines) and side > COARSEST:
            matches = _along_lines(level, matches, lines)
    assert matches is not None
    return matches


def _lines_of(photograph: NDArray[np.uint8], mask: Mask) -> list[Line]:
    side = min(LINES_AT, mask.shape[0])
    hidden = resize_mask(mask, side, side)
    return find_lines(resize(photograph, side, side), hidden)


def _along_lines(level: Level, matches: Matches, lines: Sequence[list[Line]]) -> Matches:
    """The matches, beside lines those that follow them, which count as if they had no differences."""
    hidden = level.hidden
    numbers, steps, first = [], [], 0
    for own, mask, sources, count in zip(lines, hidden.masks, hidden.sources, level.counts, strict=True):
        if own:
            chosen, down, across = steps_along(own, mask, sources)
            numbers.append(chosen + first)
            steps.append(down * hidden.stride + across)
        first += count
    device = matches.steps.device
    at, along = (torch.from_numpy(np.concatenate(parts)).to(device) for parts in (numbers, steps))
    best = trusted(level, torch.zeros_like(matches.trust))
    return Matches(
        level, matches.steps.index_copy(0, at, along), matches.trust.index_copy(0, at, best.index_select(0, at))
    )


def _halved(colours: Tensor, levels: Sequence[Hidden]) -> list[Tensor]:
    """The windows (B, 3, s, s) at the size of each level, which doubles from one to the next up to their own."""
    near = [colours]
    for _ in levels[1:]:
        near.append(F.avg_pool2d(near[-1], 2))
    return near[::-1]


def _resized(maps: Tensor, side: int) -> Tensor:
    """Maps (B, c, s, s) at another size: areas averaged where it shrinks, linear where it grows."""
    if maps.shape[-1] == side:
        return maps
    if side < maps.shape[-1]:
        return F.adaptive_avg_pool2d(maps, side)
    return F.interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
