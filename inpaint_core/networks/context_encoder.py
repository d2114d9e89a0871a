"""The generator of the Context Encoder (Pathak et al., "Context Encoders", CVPR 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from inpaint_core.networks.generator import Generator
from inpaint_core.networks.spec import ContextEncoderSpec


class ContextEncoder(Generator):
    """The middle 64x64, for `center`, or the whole image, for `full`: see `Generator`. It looks at no mask.

    Convolutions have a bias only where no BatchNorm follows, which would take it away again.

    Build one for training with `build_generator`, which draws its weights from a generator of your own.
    """

    def __init__(self, spec: ContextEncoderSpec) -> None:
        super().__init__()
        width = spec.width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            *_down(width, width),
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
            *(_up(width, width) if spec.output == "full" else ()),
            nn.ConvTranspose2d(width, 3, 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, shown: Tensor, masks: Tensor | None = None) -> Tensor:
        """See `Generator`."""
        prediction: Tensor = self.decoder(self.encoder(shown))
        return prediction


def _down(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.LeakyReLU(0.2, inplace=True)


def _up(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    convolution = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)
