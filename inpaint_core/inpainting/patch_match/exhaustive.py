"""Matches among the known patches of a level."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from inpaint_core.inpainting.patch_match.descriptors import described, described_holes
from inpaint_core.inpainting.patch_match.levels import SIDE, Level, Matches, rows_of, taken_over, trusted, vote
from inpaint_core.networks.onednn import PreparedMatrix
from inpaint_core.networks.push_pull import push_pull

ROUNDS = {32: 2, 64: 2, 128: 1}
"""How often matches are searched for, by the side of the level. More rounds gain nothing that L1, SSIM or seam show."""

STEPS = {32: 1, 64: 1, 128: 8}
"""One in so many sources is compared, by the side of the level: of 1, 2, 4 and 8 the same L1, SSIM and seam."""

FREQUENCIES = (7, 2)  # of brightness and colour, that are compared: 34 numbers for a patch
_DETAIL = 4.0  # weight of a level of detail
_DOWN, _ACROSS = 1.0, 0.3  # weight of a 64th of the window's side between a pixel and its match
_SOFT = 0.02  # standard deviation of the blur that makes colours as soft as a guess, as a share of the window's side
_ROWS_ON_CPU = 256  # of distances at once: at most 4 MiB, which stay in the cache
_DISTANCES_AT_ONCE = 2**20  # elsewhere


def search(level: Level, guess: Tensor, detail: Tensor, guess_weight: float, coarser: Matches | None) -> Matches:
    """Find matches among the known patches of a level, of which each window has one at least.

    Args:
        level: which.
        guess: (B, 3, size, size) float32, 0 to 255.
        detail: (B, 2, size, size) float32, how much detail there is.
        guess_weight: how much a match's soft colours have to be those of the guess.
        coarser: where to begin; None: with the guess.
    """
    guessed = rows_of(level.table(guess), level.hole)
    hole_features = _features(level, level.hole, guess_weight * guessed, detail)
    chosen = level.hidden.candidates(STEPS[level.size])
    candidates = torch.from_numpy(level.hidden.numbers(chosen)).to(level.colours.device)
    counts = chosen.sum(axis=(1, 2)).tolist()
    soft = rows_of(level.table(_soft(level)), candidates)
    features = _features(level, candidates, guess_weight * soft, detail)
    known = torch.cat([rows_of(described(level.colours, *FREQUENCIES), candidates), features], dim=1)
    sources = [_Sources(part) for part in torch.split(known, counts)]
    fill = guessed if coarser is None else vote(level, taken_over(level, coarser))
    for _ in range(ROUNDS[level.size]):
        wanted = torch.cat([described_holes(level, fill, *FREQUENCIES), hole_features], dim=1)
        nearest, distances = _nearest_by_window(torch.split(wanted, level.counts), sources)
        matches = Matches(level, rows_of(candidates, nearest) - level.hole, trusted(level, distances / SIDE**2))
        fill = vote(level, matches)
    return matches


def detail_of(colours: Tensor, masks: Tensor, size: int) -> Tensor:
    """How much detail there is in each pixel of a level and about it; smooth in the holes.

    Args:
        colours: (B, 3, s, s) float32, of the windows at their finest size.
        masks: (B, 1, s, s) bool.
        size: of the level.

    Returns:
        (B, 2, size, size): the standard deviation within a pixel of the level, and about it.
    """
    known = (~masks).float()
    seen = known * colours
    maps = torch.cat([known, seen, seen.square()], dim=1)
    if colours.shape[-1] > size:
        maps = F.avg_pool2d(maps, colours.shape[-1] // size)
    share, mean, square = maps[:, :1], maps[:, 1:4], maps[:, 4:]
    within = (square - mean.square() / share.clamp(min=1e-3)).clamp(min=0)
    blurred = blur(torch.cat([maps, within], dim=1), 2.0)
    weight = blurred[:, :1].clamp(min=1e-3)
    about = (blurred[:, 4:7] / weight - (blurred[:, 1:4] / weight).square()).clamp(min=0).mean(dim=1, keepdim=True)
    deviations = torch.cat([(blurred[:, 7:] / weight).mean(dim=1, keepdim=True), about], dim=1).sqrt()
    return push_pull(deviations, share < 1, traced=False)


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Maps (B, c, s, s) under a Gaussian of so many pixels, cut off at three times that; mirrored at the border."""
    along = _gaussian(maps.shape[-1], sigma, maps.device)
    return along @ maps @ along.T


@cache
def _gaussian(size: int, sigma: float, device: torch.device) -> Tensor:
    """(size, size): each row holds the weights of the pixels for one. As a matrix, since convolutions of one channel are slow."""
    radius = min(round(3 * sigma), size - 1)
    steps = torch.arange(-radius, radius + 1)
    weights = torch.exp(-0.5 * (steps / sigma).square())
    places = (torch.arange(size)[:, None] + steps).abs()
    places = torch.where(places >= size, 2 * (size - 1) - places, places)
    matrix = torch.zeros(size, size)
    matrix.scatter_add_(1, places, (weights / weights.sum()).repeat(size, 1))
    return matrix.to(device)


def _soft(level: Level) -> Tensor:
    """(B, 3, size, size): the colours about as soft as the guess."""
    known = level.known_maps
    blurred = blur(torch.cat([level.colours * known, known], dim=1), _SOFT * level.size)
    return blurred[:, :3] / blurred[:, 3:].clamp(min=1e-3)


def _features(level: Level, numbers: Tensor, colours: Tensor, detail: Tensor) -> Tensor:
    """(k, 7) of what else is compared, weighted so that it counts as one level's difference of all colours of a patch."""
    rows, columns = level.places(numbers)
    cell = 64 / level.size
    parts = [
        colours,
        _DETAIL * rows_of(level.table(detail), numbers),
        _DOWN * cell * rows[:, None],
        _ACROSS * cell * columns[:, None],
    ]
    return SIDE * torch.cat(parts, dim=1)


class _Sources:
    """The known patches of one window, to which others are compared.

    Args:
        known: (c, d) float32 descriptors.
    """

    def __init__(self, known: Tensor) -> None:
        self.count = len(known)
        # Half the squared distance, but for half the square of what is wanted: one product of matrices.
        self._halves = PreparedMatrix(torch.cat([-known, 0.5 * known.square().sum(dim=1, keepdim=True)], dim=1))

    def nearest(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Of each row of `wanted` (k, d), the number of the source with the least squared distance, and that."""
        on_cpu = wanted.device.type == "cpu"
        rows = _ROWS_ON_CPU if on_cpu else max(1, _DISTANCES_AT_ONCE // self.count)
        nearest, least = [], []
        for part in torch.split(F.pad(wanted, (0, 1), value=1.0), rows):
            halves = self._halves.times(part)
            # NumPy's is ten times as fast as torch's on CPUs.
            found = torch.from_numpy(halves.numpy().argmin(axis=1)) if on_cpu else halves.argmin(dim=1)
            nearest.append(found)
            least.append(halves.gather(1, found[:, None])[:, 0])
        distances = 2 * torch.cat(least) + wanted.square().sum(dim=1)
        return torch.cat(nearest), distances.clamp(min=0)


def _nearest_by_window(wanted: Sequence[Tensor], sources: Sequence[_Sources]) -> tuple[Tensor, Tensor]:
    """The same for each window's rows; sources are numbered window by window."""
    nearest, distances = [], []
    first = 0
    for sought, window in zip(wanted, sources, strict=True):
        which, squares = window.nearest(sought)
        nearest.append(which + first)
        distances.append(squares)
        first += window.count
    return torch.cat(nearest), torch.cat(distances)
