"""A hole in a photograph filled with patches of the photograph itself, led by a coarse guess of what belongs there.

From coarse to fine, as in Wexler et al., "Space-Time Completion of Video" (TPAMI 2007): every pixel of the hole looks for
the known patch that is most like the one around it, and takes the colour that the matches of its neighbours say. The
coarse levels search all patches of the window; the finer ones take over the matches and try those of their neighbours
(Barnes et al., "PatchMatch", SIGGRAPH 2009). Matches are the more trusted the nearer they are to what is known.

Flat patches match nearly anything, and would take over: so patches are compared by how much finer detail there is in them as
well (Newson et al., "Video Inpainting of Complex Scenes", SIAM J. Imaging Sciences 2014), and by where they lie: what is
beside a hole, above all at its height, is more likely to go on in it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inpaint_core.inpainting.patch_match.exhaustive import ROUNDS, search
from inpaint_core.inpainting.patch_match.joining import joined
from inpaint_core.inpainting.patch_match.matches import LARGEST, Level, Maps, Mask, Matches
from inpaint_core.inpainting.patch_match.neighbours import refine
from inpaint_core.inpainting.windows import blank, resize, resize_mask

COARSEST = 32
"""Side of the first level in pixels."""

_FINEST = 512  # side of the last level at which anything is compared
_GUESS = 1.0  # weight of a level's difference to the guess, at the coarsest level
_GUESS_FALLS = 0.8  # times this at each finer level


def synthesise(photograph: NDArray[np.uint8], mask: Mask, guess: Maps) -> Maps | None:
    """Fill a hole with patches of what is around it.

    Args:
        photograph: (n, n, 3) uint8 RGB, n at least `COARSEST`; what it holds under the mask has no effect.
        mask: (n, n) bool, True = hole; one pixel at least.
        guess: (m, m, 3) float32, 0 to 255: a picture of the whole window, of any size, that is soft or wrong in detail.

    Returns:
        (k, 3) float32, 0 to 255: the colours of the masked pixels, row by row. None where too little is known to copy from.
    """
    size = mask.shape[0]
    photograph = blank(photograph, mask)
    side = min(size, LARGEST)
    near, near_mask = resize(photograph, side, side), resize_mask(mask, side, side)
    sides = [COARSEST]
    while 2 * sides[-1] <= size and sides[-1] < _FINEST:
        sides.append(2 * sides[-1])
    if near_mask.all():
        return None
    matches: Matches | None = None
    guess_weight = _GUESS
    for side in sides:
        level = Level.of(near, near_mask, side)
        if side in ROUNDS and level.known.any():
            matches = search(level, near, near_mask, guess, guess_weight, matches)
        elif matches is not None:
            matches = refine(level, matches)
        guess_weight *= _GUESS_FALLS
    return None if matches is None else joined(photograph, mask, matches)
