"""Weights of errors under the Gaussian windows of MS-SSIM's coarsest scale (Zhao et al., IEEE TCI 2017)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from inpaint_core.metrics.ssim_formula import SIGMA, scale_count


def window_sigma(side: int) -> float:
    """Standard deviation, in pixels of the image, of the window of the coarsest scale of an image of `side` pixels.

    Each scale halves the image: 6 at 64 pixels (3 scales), 12 at 128 (4 scales), 24 from 176 on (5 scales).
    """
    return SIGMA * 2.0 ** (scale_count(side) - 1)


def window_weights(domain: Tensor) -> Tensor:
    """What each pixel's error counts in the mean over Gaussian windows, one centred on each pixel of a domain.

    The mean error of a window is that of the pixels of the domain, by their Gaussian weight divided by the sum of those
    weights (normalised convolution, Knutsson and Westin, CVPR 1993): errors that are equal everywhere have that mean,
    whatever the domain's form. The mean over the windows is linear in the errors: it is the sum of errors times the weights
    given here. A pixel counts by its contribution to the windows, as it does in MS-SSIM; this is the point-wise product with
    the Gaussian in Zhao et al., section III-D, where there is one window, in the middle of a patch. Near the edge of the
    domain, where fewer windows see a pixel, it counts down to 0.7 of what it does far inside.

    Args:
        domain: (B, 1, H, W) bool.

    Returns:
        (B, 1, H, W) float32, 0 outside the domain; the sum of an image is 1, or 0 where its domain is empty.
    """
    inside = domain.double()  # whose products TF32 and autocast leave alone
    sigma = window_sigma(min(domain.shape[-2:]))
    rows, columns = (_gaussian(size, sigma, domain.device) for size in domain.shape[-2:])

    def blurred(maps: Tensor) -> Tensor:
        return rows @ maps @ columns

    # A window holds its own centre, of weight 1, at least.
    shares = inside / blurred(inside).clamp(min=1)
    return (inside * blurred(shares) / inside.sum((2, 3), keepdim=True).clamp(min=1)).float()


@lru_cache(maxsize=16)
def _gaussian(size: int, sigma: float, device: torch.device) -> Tensor:
    """(size, size): row i holds the window around pixel i, without a factor, which falls out."""
    with torch.inference_mode(False), torch.no_grad():
        places = torch.arange(size, dtype=torch.float64, device=device)
        return torch.exp((places - places[:, None]).square() / (-2 * sigma**2))
