"""The generator of the Context Encoder (Pathak et al., "Context Encoders", CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from inpaint_core.networks.generator import Generator
from inpaint_core.networks.spec import ContextEncoderSpec, hole_size

_SMALLEST = 64
"""Side in pixels of the images that four steps of stride 2, of 1, 2, 4 and 8 times `width` channels, take to 4x4 maps."""


class ContextEncoder(Generator):
    """The middle square, for `center`, or the whole image, for `full`: see `Generator`. It looks at no mask.

    Steps of stride 2 take the image to 4x4 maps, which one convolution takes to the 1x1 bottleneck, and back. Of 64 pixels
    there are four, whose channels double at each. Each doubling of the size adds one step (`extra_steps`) to the encoder
    after its first, and to the decoder before its last: it keeps its `width` channels, as that of 128 pixels does in the
    code of Pathak et al. So the bottleneck and what is around it are the same at every size, and a larger network has few
    more weights.

    Convolutions have a bias only where no BatchNorm follows, which would take it away again.

    Build one for training with `build_generator`, which draws its weights from a generator of your own.
    """

    def __init__(self, spec: ContextEncoderSpec) -> None:
        super().__init__()
        width = spec.width
        predicted = spec.size if spec.output == "full" else hole_size(spec.size)
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *(module for _ in range(extra_steps(spec.size)) for module in _down(width, width)),
            *_down(width, 2 * width),
            *_down(2 * width, 4 * width),
            *_down(4 * width, 8 * width),
            nn.Conv2d(8 * width, spec.bottleneck, 4, bias=False),
            nn.BatchNorm2d(spec.bottleneck),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(spec.bottleneck, 8 * width, 4, bias=False),
            nn.BatchNorm2d(8 * width),
            nn.ReLU(inplace=True),
            *_up(8 * width, 4 * width),
            *_up(4 * width, 2 * width),
            *_up(2 * width, width),
            *(module for _ in range(extra_steps(predicted)) for module in _up(width, width)),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, shown: Tensor, masks: Tensor | None = None) -> Tensor:
        """See `Generator`."""
        prediction: Tensor = self.decoder(self.encoder(shown))
        return prediction


def extra_steps(side: int) -> int:
    """How many steps of stride 2 images of `side` pixels, a power of 2 of at least 64, take besides the four of 64 pixels."""
    return (side // _SMALLEST).bit_length() - 1


def _down(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True)


def _up(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
