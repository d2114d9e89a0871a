"""Observation of single steps: curves of every n-th step for TensorBoard, and a profile of some steps."""

from __future__ import annotations

import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from inpaint_core.training.config import TrainConfig
from inpaint_core.training.data.samples import Batch
from inpaint_core.training.run_output import RunOutput
from inpaint_core.training.sharing import scaled_optimiser
from inpaint_core.training.step import AdversarialStep, rate_factor
from inpaint_core.training.worker_context import WorkerContext

_GB = 1e9
# Steps that a profile leaves out: kernels are chosen, compiled and loaded in the first ones. The last of them are profiled and
# dropped, since the profiler's own start shows there.
_SKIPPED = 10
_DROPPED = 2


class StepWatch:
    """Takes the steps of the first worker, and looks at some of them.

    Args:
        config: the run's.
        context: the worker; others than the first only take their steps.
        steps: of the whole run.
        output: the run's, where points and profiles go; asked when there are some, on the first worker.
    """

    def __init__(
        self,
        config: TrainConfig,
        context: WorkerContext,
        *,
        steps: int,
        output: Callable[[], RunOutput | None],
    ) -> None:
        self._config = config
        self._context = context
        self._steps = steps
        self._output = output
        first = context.rank == 0
        self._every = config.watch.scalars if first else None
        self._profile = (
            _Profile(config.watch.profile, context.device, self._keep) if first and config.watch.profile else None
        )
        self._waited: list[float] = []

    def __call__(self, networks: AdversarialStep, batch: Batch, waited: float) -> dict[str, Tensor]:
        """Take a step: returns its scalars, on the device.

        Args:
            networks: what takes it.
            batch: of the step.
            waited: seconds that were waited for the batch.
        """
        self._waited.append(waited)
        if self._every is None or (networks.done + 1) % self._every:
            parts = networks(batch)
        else:
            parts = self._seen(networks, batch)
        if self._profile is not None and not self._profile.step(networks.done):
            self._profile = None
        return parts

    def close(self) -> None:
        """Write a profile that the run was too short for, as far as it went."""
        if self._profile is not None:
            self._profile.close()

    def _seen(self, networks: AdversarialStep, batch: Batch) -> dict[str, Tensor]:
        with _logits(networks.discriminator, enabled=not self._context.compile) as logits:
            parts = networks(batch)
        optimiser = scaled_optimiser(self._config)
        factor = rate_factor(optimiser, networks.done - 1, self._steps)
        values: dict[str, Tensor | float] = {
            "rate/generator": optimiser.generator_rate * factor,
            "rate/discriminator": optimiser.discriminator_rate * factor,
            "data_wait_seconds": sum(self._waited) / len(self._waited),
            "memory_gb/host_peak": _most_host_memory() / _GB,
            **{f"loss/{name}": value for name, value in parts.items()},
        }
        if self._context.device.type == "cuda":
            values["memory_gb/gpu_peak"] = torch.cuda.max_memory_allocated(self._context.device) / _GB
        for name, network in (("generator", networks.generator), ("discriminator", networks.discriminator)):
            gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
            if gradients:
                values[f"gradient_norm/{name}"] = nn.utils.get_total_norm(gradients)
        if len(logits) >= 2:  # on the truth, then on the fills; the generator's step comes after
            values |= {"logits/real": logits[0], "logits/fake": logits[1]}
        self._waited.clear()
        output = self._output()
        if output is not None:
            output.scalars({f"step/{name}": float(value) for name, value in values.items()}, networks.done)
        return parts

    def _keep(self, key: str, data: bytes) -> None:
        output = self._output()
        if output is not None:
            output.save_trace(key, data)


def _most_host_memory() -> int:
    """The most memory that this process has taken, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


@contextmanager
def _logits(discriminator: nn.Module, *, enabled: bool) -> Iterator[list[Tensor]]:
    """The mean of what the discriminator puts out, call by call. Not of a compiled one, which a hook compiles anew."""
    means: list[Tensor] = []

    def note(module: nn.Module, inputs: object, output: Tensor) -> None:
        means.append(output.detach().float().mean())

    if not enabled:
        yield means
        return
    handle = discriminator.register_forward_hook(note)
    try:
        yield means
    finally:
        handle.remove()


class _Profile:
    """A trace of `steps` steps for `chrome://tracing` or Perfetto."""

    def __init__(self, steps: int, device: torch.device, keep: Callable[[str, bytes], None]) -> None:
        activities = [torch.profiler.ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        self._keep = keep
        self._left = _SKIPPED + steps
        self._done = 0
        self._profiler = torch.profiler.profile(
            activities=activities,
            schedule=torch.profiler.schedule(
                wait=max(0, _SKIPPED - _DROPPED), warmup=min(_DROPPED, _SKIPPED), active=steps, repeat=1
            ),
            on_trace_ready=self._ready,
            profile_memory=True,
        )
        self._profiler.start()

    def step(self, done: int) -> bool:
        """A step has ended, the run's step `done`; returns whether there is more to profile."""
        self._done = done
        self._left -= 1
        self._profiler.step()
        if self._left == 0:
            self._profiler.stop()
        return self._left > 0

    def close(self) -> None:
        self._profiler.stop()

    def _ready(self, profiler: torch.profiler.profile) -> None:
        with tempfile.TemporaryDirectory(prefix="profile-") as folder:
            path = Path(folder) / "trace.json.gz"
            profiler.export_chrome_trace(str(path))
            self._keep(f"profile/step-{self._done:08}.json.gz", path.read_bytes())
