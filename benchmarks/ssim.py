"""SSIM as a training loss against other libraries: `python benchmarks/ssim.py [--rounds 15] [--threads 2]`.

Forward pass and gradient by the prediction, of batches of 64 colour images in float32, as one training step needs them.
All libraries take turns in one process, so that whatever else the machine does meets them alike; medians, and the
median of each round's ratio, are printed and written to `ssim.json` beside this file.

Needs pytorch-msssim and torchmetrics: `uv pip install pytorch-msssim torchmetrics` (the dev group has both).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from inpaint_core.metrics.ssim import ms_ssim, ssim

try:
    import pytorch_msssim
    import torchmetrics.functional.image as torchmetrics_image
except ModuleNotFoundError as error:
    sys.exit(f"{error.name} is what this compares with: uv pip install pytorch-msssim torchmetrics")

BATCH = 64
SIDES = (64, 128)
OURS = "this project"

Loss = Callable[[Tensor, Tensor], Tensor]
SSIM: dict[str, Loss] = {
    OURS: lambda x, y: ssim(x, y, data_range=2.0).mean(),
    "pytorch-msssim": lambda x, y: pytorch_msssim.ssim(x, y, data_range=2.0),
    "torchmetrics": lambda x, y: torchmetrics_image.structural_similarity_index_measure(x, y, data_range=2.0),
}
MS_SSIM: dict[str, Loss] = {
    OURS: lambda x, y: ms_ssim(x, y, data_range=2.0).mean(),
    "pytorch-msssim": lambda x, y: pytorch_msssim.ms_ssim(x, y, data_range=2.0),
}


@dataclass(frozen=True)
class Comparison:
    """Medians by library: milliseconds, and how many times as long as ours it takes."""

    milliseconds: dict[str, float]
    times_ours: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".json"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    if load > 1:
        print(
            f"the machine is busy (load {load:.1f}): torch's own threads suffer more by it than ours", file=sys.stderr
        )
    device = torch.device(arguments.device)
    cases = {f"SSIM {BATCH}x3x{side}x{side}": (SSIM, BATCH, side) for side in SIDES}
    # Five scales, which is all that pytorch-msssim has, need 176 pixels.
    cases["MS-SSIM 8x3x192x192"] = (MS_SSIM, 8, 192)
    results = {
        name: compare(losses, images(count, side, device), arguments.rounds)
        for name, (losses, count, side) in cases.items()
    }
    report = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": arguments.threads,
        "load average at the start": round(load, 1),
        "rounds": arguments.rounds,
        "versions": {name: version(name) for name in ("torch", "pytorch-msssim", "torchmetrics")},
        "forward and backward": {name: asdict(result) for name, result in results.items()},
    }
    arguments.output.write_text(json.dumps(report, indent=2) + "\n")
    print_table(results)


def images(count: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """A prediction and a truth in [-1, 1]: smooth shades, and the same with noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand((count, 3, side // 8, side // 8), generator=generator)
    truth = torch.nn.functional.interpolate(coarse, size=side, mode="bilinear") * 2 - 1
    prediction = (truth + 0.2 * torch.randn(truth.shape, generator=generator)).clamp(-1, 1)
    return prediction.to(device), truth.to(device)


def compare(losses: dict[str, Loss], pair: tuple[Tensor, Tensor], rounds: int) -> Comparison:
    values = {name: loss(*pair).item() for name, loss in losses.items()}
    if max(values.values()) - min(values.values()) > 0.02:  # torchmetrics counts the mirrored border too
        sys.exit(f"not the same thing: {values}")
    timings: dict[str, list[float]] = {name: [] for name in losses}
    for number in range(rounds + 2):
        for name, loss in losses.items():
            elapsed = 1000 * seconds(loss, *pair)
            if number >= 2:  # the first rounds warm up
                timings[name].append(elapsed)
    ratios = {
        name: statistics.median(theirs / ours for theirs, ours in zip(timings[name], timings[OURS], strict=True))
        for name in losses
    }
    milliseconds = {name: round(statistics.median(times), 2) for name, times in timings.items()}
    return Comparison(milliseconds, {name: round(ratio, 2) for name, ratio in ratios.items()})


def seconds(loss: Loss, prediction: Tensor, truth: Tensor) -> float:
    prediction = prediction.detach().requires_grad_()
    synchronise(prediction.device)
    start = time.perf_counter()
    torch.autograd.grad(loss(prediction, truth), prediction)
    synchronise(prediction.device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def print_table(results: dict[str, Comparison]) -> None:
    print(f"{'forward and backward':24}{'library':18}{'median ms':>12}{'x ours':>9}")
    for case, result in results.items():
        for name, milliseconds in result.milliseconds.items():
            print(f"{case:24}{name:18}{milliseconds:12.1f}{result.times_ours[name]:9.2f}")


if __name__ == "__main__":
    main()
