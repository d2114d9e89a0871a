"""The steps of the patch search: descriptors, exhaustive search, neighbours, votes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from inpaint_core.inpainting.patch_match.descriptors import described, described_holes
from inpaint_core.inpainting.patch_match.exhaustive import blur, detail_of, search
from inpaint_core.inpainting.patch_match.levels import (
    RADIUS,
    SIDE,
    Hidden,
    Level,
    Matches,
    bordered,
    taken_over,
    trusted,
    vote,
)
from inpaint_core.inpainting.patch_match.neighbours import refine

pytestmark = pytest.mark.usefixtures("one_thread")

Mask = NDArray[np.bool_]


def pictures(count: int = 2, size: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 255


def masks(size: int = 32) -> Mask:
    """Two holes: one inside, one at the corner of the window."""
    result = np.zeros((2, size, size), bool)
    result[0, size // 3 : size // 2, size // 4 : size // 2] = True
    result[1, : size // 4, : size // 3] = True
    return result


def level(size: int = 32) -> Level:
    return Level(Hidden(size, masks(size)), pictures(size=size))


def patch(colours: torch.Tensor, window: int, row: int, column: int) -> torch.Tensor:
    around = bordered(colours)[window]
    return around[:, row : row + SIDE, column : column + SIDE]


def test_sources_are_the_middles_of_whole_patches() -> None:
    hidden = Hidden(32, masks())
    for window in range(2):
        for row in range(32):
            for column in range(32):
                rows, columns = slice(row - RADIUS, row + RADIUS + 1), slice(column - RADIUS, column + RADIUS + 1)
                inside = RADIUS <= row < 32 - RADIUS and RADIUS <= column < 32 - RADIUS
                assert hidden.sources[window, row, column] == (inside and not hidden.masks[window, rows, columns].any())


def test_descriptors_of_holes_are_those_of_the_filled_windows() -> None:
    some = level()
    fill = torch.rand(len(some.hole), 3, generator=torch.Generator().manual_seed(1)) * 255
    expected = described(some.with_fill(fill), 7, 2)[some.hole]
    torch.testing.assert_close(described_holes(some, fill, 7, 2), expected, rtol=1e-5, atol=1e-3)
    assert expected.shape == (len(some.hole), 34)


def test_the_box_of_holes_has_whole_quarters() -> None:
    hole = np.zeros((2, 32, 32), bool)
    assert Hidden(32, hole).box == (slice(0, 0), slice(0, 0))
    hole[0, 9:12, 31] = True
    assert Hidden(32, hole).box == (slice(8, 16), slice(24, 32))
    hole[1, 16, 15:17] = True
    assert Hidden(32, hole).box == (slice(8, 24), slice(8, 32))


def test_depths_are_those_of_whole_windows() -> None:
    several = np.concatenate([masks(64), np.zeros((2, 64, 64), bool)])  # the third has no hole
    several[3, 5:60:9, 2:-1] = True
    several[3, :, 30:] |= np.random.default_rng(0).random((64, 34)) < 0.6
    whole = [cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)[mask] for mask in several]
    np.testing.assert_array_equal(Hidden(64, several).depths(), np.concatenate(whole))
    everything = Hidden(32, np.ones((1, 32, 32), bool)).depths()
    np.testing.assert_array_equal(everything, np.full(32 * 32, 64, np.float32))  # no deeper than the window is wide


def test_half_the_size_hides_what_has_a_hidden_pixel() -> None:
    half = Hidden(32, masks()).halved()
    assert half.size == 16
    assert np.array_equal(half.masks, masks().reshape(2, 16, 2, 16, 2).max(axis=(2, 4)))


@pytest.mark.parametrize("step", [1, 2, 4])
def test_one_source_in_so_many_is_a_candidate_and_all_where_that_leaves_none(step: int) -> None:
    hidden = Hidden(32, masks())
    candidates = hidden.candidates(step)
    assert not (candidates & ~hidden.sources).any()
    assert abs(candidates.sum() * step / hidden.sources.sum() - 1) < 0.1
    lonely = np.ones((1, 32, 32), bool)
    lonely[0, 4:11, 5:12] = False  # one patch
    alone = Hidden(32, lonely)
    assert alone.candidates(step).sum() == alone.sources.sum() == 1


def test_all_frequencies_of_brightness_and_colour_are_the_whole_patch() -> None:
    colours = pictures()
    rows = described(colours, 2 * SIDE, 2 * SIDE)
    assert rows.shape[1] == 3 * SIDE**2
    at = Level(Hidden(32, masks()), colours)
    for first, second in (((0, 9, 9), (0, 20, 15)), ((0, 16, 5), (1, 9, 31)), ((1, 0, 0), (1, 31, 12))):
        numbers = [(w * at.stride + r + RADIUS) * at.stride + c + RADIUS for w, r, c in (first, second)]
        distance = (rows[numbers[0]] - rows[numbers[1]]).square().sum()
        truth = (patch(colours, *first) - patch(colours, *second)).square().sum()
        torch.testing.assert_close(distance, truth, rtol=1e-4, atol=1)


def test_few_frequencies_know_flat_patches_exactly_and_blur_the_rest() -> None:
    flat = torch.tensor([30.0, 90.0, 200.0]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    rows = described(flat, 3, 1)
    assert rows.shape[1] == 6 + 2
    inside = rows.view(38, 38, -1)[RADIUS:-RADIUS, RADIUS:-RADIUS]
    torch.testing.assert_close(inside.square().sum(dim=2), torch.full((32, 32), SIDE**2 * 49000.0), rtol=1e-5, atol=1)
    noise = pictures(1)
    assert described(noise, 3, 1).square().sum() < described(noise, 7, 2).square().sum()


def test_what_lies_somewhere_else_as_well_is_found_there() -> None:
    """The picture is the same every 16 columns, so that the hole's pixels are known 16 columns away."""
    colours = pictures(1, 16).repeat(2, 1, 2, 2)
    hidden = np.zeros((2, 32, 32), bool)
    hidden[:, 12:17, 6:11] = True
    at = Level(Hidden(32, hidden), colours)
    guess = colours  # a perfect one
    detail = detail_of(colours, torch.from_numpy(hidden)[:, None], 32)
    found = search(at, guess, detail, 1.0, None)
    # What else is compared (how far away, how much detail) chooses another place now and then.
    assert (vote(at, found) - at.pixels[at.hole]).abs().mean() < 10  # of noise, whose pixels differ by 85
    rows, columns = at.places(at.hole)
    to_rows, to_columns = at.places(at.hole + found.steps)
    assert ((to_rows - rows) % 16 == 0).float().mean() > 0.6
    assert ((to_columns - columns) % 16 == 0).float().mean() > 0.6
    assert bool(((at.hole + found.steps) // at.stride**2 == at.hole // at.stride**2).all())


def test_votes_are_the_trusted_means_of_what_neighbours_say() -> None:
    at = level()
    generator = torch.Generator().manual_seed(1)
    chosen = []
    first = 0
    for count, sources in zip(at.counts, at.hidden.sources.sum(axis=(1, 2)).tolist(), strict=True):
        chosen.append(at.sources[first + torch.randint(sources, (count,), generator=generator)])
        first += sources
    matches = Matches(at, torch.cat(chosen) - at.hole, torch.rand(len(at.hole), generator=generator))
    votes = vote(at, matches)
    steps, trust = matches.over_level()
    for pixel in (0, 17, len(at.hole) - 1):
        total, weight = torch.zeros(3), 0.0
        for down in range(-RADIUS, RADIUS + 1):
            for across in range(-RADIUS, RADIUS + 1):
                neighbour = int(at.hole[pixel]) + down * at.stride + across
                total += trust[neighbour] * at.pixels[int(at.hole[pixel] + steps[neighbour])]
                weight += float(trust[neighbour])
        torch.testing.assert_close(votes[pixel], total / weight, rtol=1e-4, atol=1e-3)


def test_matches_of_a_coarser_level_lie_twice_as_far() -> None:
    coarse, fine = level(32), level(64)
    found = search(coarse, coarse.colours, detail_of(coarse.colours, coarse.known_maps == 0, 32), 1.0, None)
    taken = taken_over(fine, found)
    maps, _ = found.over_level()
    rows, columns = fine.places(fine.hole)
    to_rows, to_columns = fine.places(fine.hole + taken.steps)
    for pixel in range(0, len(fine.hole), 37):
        window = int(fine.hole[pixel]) // fine.stride**2
        row, column = int(rows[pixel]) // 2, int(columns[pixel]) // 2
        number = (window * coarse.stride + row + RADIUS) * coarse.stride + column + RADIUS
        to = coarse.places(torch.tensor([number + int(maps[number])]))
        assert int(to_rows[pixel] - rows[pixel]) == 2 * (int(to[0]) - row)
        assert int(to_columns[pixel] - columns[pixel]) == 2 * (int(to[1]) - column)


def test_neighbours_only_make_matches_better_and_never_leave_what_is_known() -> None:
    coarse, fine = level(32), level(64)
    found = search(coarse, coarse.colours, detail_of(coarse.colours, coarse.known_maps == 0, 32), 1.0, None)
    begun, better = taken_over(fine, found), refine(fine, found)
    table = described(fine.colours, 3, 1)
    # Beside what the estimate of the beginning says, as the search has it.
    wanted = described(fine.with_fill(vote(fine, begun)), 3, 1)[fine.hole]
    costs = [(table[fine.hole + matches.steps] - wanted).square().sum(dim=1).mean() for matches in (begun, better)]
    assert costs[1] < costs[0]
    sources = set(fine.sources.tolist())
    assert all(number in sources for number in (fine.hole + better.steps).tolist())


def test_trust_falls_with_cost_and_depth() -> None:
    at = level()
    costs = torch.linspace(0, 400, len(at.hole))
    trust = trusted(at, costs)
    assert trust.shape == costs.shape
    assert 0 < trust.min() < trust.max() <= 1
    same = trusted(at, torch.full_like(costs, 10.0))
    deepest, shallowest = int(at.depths.argmax()), int(at.depths.argmin())
    assert same[deepest] < same[shallowest]


def test_a_blur_keeps_what_is_flat_and_is_that_of_opencv() -> None:
    import cv2

    image = pictures(1, 64)
    torch.testing.assert_close(blur(torch.full((1, 2, 32, 32), 7.0), 2.0), torch.full((1, 2, 32, 32), 7.0))
    reference = cv2.GaussianBlur(image[0].permute(1, 2, 0).numpy(), (13, 13), 2.0, borderType=cv2.BORDER_REFLECT_101)
    torch.testing.assert_close(blur(image, 2.0)[0].permute(1, 2, 0), torch.from_numpy(reference), rtol=1e-4, atol=1e-2)
