"""SSIM for fills whose details cannot be known: detail in another place counts half, and no detail hardly."""

from __future__ import annotations

from torch import Tensor

from inpaint_core.metrics.ssim_formula import constants
from inpaint_core.metrics.ssim_window import local_means


def detail_maps(x: Tensor, y: Tensor, *, data_range: float) -> tuple[Tensor, Tensor]:
    """SSIM in every window that lies wholly inside the images, and its form that does not prefer blur.

    SSIM is l c s: of the local means (luminance l), of the standard deviations (contrast c), and the correlation (structure
    s, -1 to 1) of two images (Wang et al., IEEE TIP 2004, equations 6 to 13, with C3 = C2 / 2). Of a network's guess the
    correlation with the truth is near 0 wherever there is detail. Then SSIM is near 0 for a sharp guess as for a blurred
    one, and a little higher for the blurred one. Here it is l c (1 + s) / 2: a guess with the local contrast of the truth has
    half where its detail lies elsewhere, and one without contrast less; but noise, where the truth has none, too. That
    statistics without the correlation tell how alike two textures are: Zujovic, Pappas and Neuhoff, IEEE TIP 2013.

    Args:
        x, y: (B, C, H, W) float64, both sides 11 or more; in float32 the variances of smooth regions are too rough.
        data_range: largest value less smallest value that the samples can have.

    Returns:
        Two maps (B, C, H - 10, W - 10): SSIM, as of `ssim.ssim_map`, and l c (1 + s) / 2, 0 to 1.
    """
    c1, c2 = constants(data_range)
    u, v, xx, yy, xy = local_means(x, y, x * x, y * y, x * y)
    variance_x, variance_y = (xx - u * u).clamp(min=0), (yy - v * v).clamp(min=0)
    luminance = (2 * u * v + c1) / (u * u + v * v + c1)
    variances = variance_x + variance_y + c2
    similarity = luminance * (2 * (xy - u * v) + c2) / variances
    contrast = luminance * (2 * (variance_x * variance_y).sqrt() + c2) / variances
    return similarity, (similarity + contrast) / 2
