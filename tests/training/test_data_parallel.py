"""Two workers share a batch: real processes, gloo, the same code as in the job.

All that the workers do is done once, by `work`; the tests look at what it left.
"""

import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor, nn

from inpaint_core.errors import StorageError, TrainingError, UserError
from inpaint_core.hole_masks.sampler import HoleSampler
from inpaint_core.networks.spec import ContextEncoderSpec
from inpaint_core.training.checkpoint import load_state
from inpaint_core.training.config import LossConfig, OptimiserConfig, TrainConfig
from inpaint_core.training.data.blocks import ImageBlocks, held_out
from inpaint_core.training.data.samples import BatchStream
from inpaint_core.training.history import read_history
from inpaint_core.training.meter import Meter
from inpaint_core.training.scaling_config import TrainScalingConfig
from inpaint_core.training.step import AdversarialStep
from inpaint_core.training.sync_points import Notice, WorkerTerminated
from inpaint_core.training.worker_context import WorkerContext
from tests.training.small import CPU, batch_of, config, copied, folder, photographs, run_of, same

RANKS = 2
Shown = dict[str, Any]

SETTINGS = config(
    batch=8,
    loss=LossConfig(adversarial_weight=0.1, l1=0.3, ssim=0.7),
    optimiser=OptimiserConfig(generator_rate=1e-3, warmup_steps=0, decay="none", ema=None),
)
FULL = replace(
    SETTINGS,
    network=ContextEncoderSpec(output="full", bottleneck=16, width=4),
    optimiser=replace(SETTINGS.optimiser, clip=0.05),
)


def frozen_statistics(networks: AdversarialStep) -> AdversarialStep:
    """BatchNorm that takes its running statistics in training too, so that a sample does not depend on the others."""
    for network in (networks.generator, networks.discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
                layer.train = lambda mode=True, layer=layer: layer  # type: ignore[method-assign,assignment,misc]
    return networks


def stream_of(settings: TrainConfig, context: WorkerContext) -> BatchStream:
    holes = HoleSampler(("box",), None, None) if settings.network.output == "full" else None
    return BatchStream(
        ImageBlocks.of(photographs(40), size=8),
        held_out=held_out(40, 4),
        batch=settings.global_batch,
        rank=context.rank,
        ranks=context.ranks,
        seed=1,
        holes=holes,
    )


def shown(networks: AdversarialStep) -> Shown:
    return {
        "generator": copied(networks.generator),
        "discriminator": copied(networks.discriminator),
        "gradients": {
            f"{name}.{key}": value.grad.clone()
            for name in ("generator", "discriminator")
            for key, value in getattr(networks, name).named_parameters()
            if value.grad is not None
        },
    }


def one_step(settings: TrainConfig, context: WorkerContext, *, frozen: bool) -> Shown:
    networks = AdversarialStep(settings, context, steps=10)
    if frozen:
        frozen_statistics(networks)
    parts = networks(next(stream_of(settings, context).epoch(0)))
    meter = Meter(context)
    meter.add(0, parts)
    meter.flush()
    return {**shown(networks), "losses": meter.means()}


def twins(context: WorkerContext) -> dict[str, Tensor]:
    """Gradients of a batch whose second half is its first: every worker's BatchNorm sees what that of the whole sees.

    The generator's without an adversary: Adam's steps have the size of the rate even where a gradient is nothing but
    rounding, as many before a BatchNorm are, and a discriminator after its step is not that of another machine.
    """
    half = photographs(4)
    batch = batch_of(half if context.ranks == RANKS else np.concatenate([half, half]))
    alone = replace(SETTINGS, loss=replace(SETTINGS.loss, adversarial_weight=0.0))
    gradients: dict[str, Tensor] = {}
    for settings, network in ((alone, "generator"), (SETTINGS, "discriminator")):
        networks = AdversarialStep(settings, context, steps=10)
        networks(batch)
        found = shown(networks)["gradients"]
        gradients |= {name: value for name, value in found.items() if name.startswith(network)}
    return gradients


def several_steps(context: WorkerContext) -> Shown:
    networks = AdversarialStep(replace(SETTINGS, optimiser=OptimiserConfig(warmup_steps=2)), context, steps=10)
    for batch in stream_of(SETTINGS, context).epoch(0):
        networks(batch)
    before = {"judged": copied(networks.judged), **shown(networks)}
    networks.average_buffers()
    return {"before": before, "after": {"judged": copied(networks.judged), **shown(networks)}, "done": networks.done}


def near_losses(context: WorkerContext) -> dict[str, list[float]]:
    """L1 of the same steps with gradients exchanged in float32 and in bfloat16; some of these gradients, and the weights."""
    found: dict[str, list[float]] = {}
    for name, gradients in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        networks = AdversarialStep(SETTINGS, replace(context, gradients=gradients), steps=10)
        batches = list(stream_of(SETTINGS, context).epoch(0))
        found[name] = [float(networks(batch)["l1"]) for batch in batches]
        found[f"{name} gradient"] = next(networks.generator.parameters()).grad.flatten()[:64].tolist()  # type: ignore[union-attr]
        found[f"{name} weights"] = [float(value.double().sum()) for value in networks.generator.parameters()]
    return found


def told_to_end(context: WorkerContext, path: Path) -> str:
    """A run of which one worker hears of its end, the one that does not write."""
    path.mkdir(exist_ok=True)
    try:
        run_of(config(batch=6), folder(path), context=context, notice=lambda: Notice(terminated=context.rank == 1))()
    except WorkerTerminated as error:
        return str(error)
    return "nothing"


def error_of(context: WorkerContext, error: UserError | None) -> str | None:
    try:
        context.agree(error)
    except UserError as raised:
        return f"{type(raised).__name__}: {raised}"
    return None


def broken_loss(context: WorkerContext) -> str:
    meter = Meter(context)
    meter.add(0, {"total": torch.tensor(1.0)})
    meter.add(1, {"total": torch.tensor(float("nan") if context.rank == 1 else 1.0)})
    try:
        meter.flush()
    except TrainingError as error:
        return str(error)
    return "nothing"


def whole_run(context: WorkerContext, path: Path) -> Shown:
    rows: list[dict[str, Any]] = []
    lines: list[str] = []
    run_of(config(batch=6), folder(path), context=context, print_line=lines.append, report=rows.append)()
    # Every worker goes on from the same checkpoint.
    again: list[dict[str, Any]] = []
    run_of(config(batch=6, epochs=3), folder(path), context=context, report=again.append)()
    return {"rows": rows, "lines": lines, "again": again}


def blocked_run(context: WorkerContext, path: Path) -> str:
    path.mkdir(exist_ok=True)
    (path / "pictures").write_text("a file where a folder has to be")
    try:
        run_of(config(batch=6, epochs=1), folder(path), context=context)()
    except StorageError as error:
        return str(error)
    return "nothing"


def work(rank: int, port: int, path: str) -> None:
    """One worker."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    context = WorkerContext.of(TrainScalingConfig(precision="float32"), torch.device("cpu"))
    values = [torch.arange(6.0).view(2, 3).t() * (rank + 1), torch.tensor(float(rank))]
    context.average(values)
    result = {
        "context": context,
        "frozen": one_step(SETTINGS, context, frozen=True),
        "frozen_full": one_step(FULL, context, frozen=True),
        "training": one_step(SETTINGS, context, frozen=False),
        "twins": twins(context),
        "steps": several_steps(context),
        "sum": context.sum(torch.tensor([1.0, rank], dtype=torch.float64)),
        "mean": values,
        "agreed": error_of(context, None),
        "refused": error_of(context, TrainingError("only the second fails") if rank == 1 else None),
        "first": error_of(context, TrainingError(f"worker {rank}")),
        "broken": broken_loss(context),
        "run": whole_run(context, Path(path) / "run"),
        "blocked": blocked_run(context, Path(path) / "blocked"),
        "told": told_to_end(context, Path(path) / "told"),
        "near": near_losses(context),
    }
    torch.save(result, Path(path) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Shown]]:
    path = tmp_path_factory.mktemp("workers")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (path / "run").mkdir()
    torch.multiprocessing.spawn(work, (port, str(path)), nprocs=RANKS)  # type: ignore[no-untyped-call]
    return path, [torch.load(path / f"{rank}.pt", weights_only=False) for rank in range(RANKS)]


Workers = tuple[Path, list[Shown]]


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference of two states, less their counters."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one if one[name].is_floating_point())


@pytest.mark.parametrize(("name", "settings"), [("frozen", SETTINGS), ("frozen_full", FULL)])
def test_two_workers_take_the_step_of_one(workers: Workers, name: str, settings: TrainConfig) -> None:
    alone = one_step(settings, CPU, frozen=True)
    for result in workers[1]:
        together = result[name]
        largest = max(float(value.abs().max()) for value in alone["gradients"].values())
        assert furthest(together["gradients"], alone["gradients"]) < 1e-5 * largest
        for network in ("generator", "discriminator"):
            assert furthest(together[network], alone[network]) < 1e-6
        assert together["losses"] == pytest.approx(alone["losses"], rel=1e-5)


def test_half_a_batch_alone_would_have_taken_another(workers: Workers) -> None:
    networks = frozen_statistics(AdversarialStep(SETTINGS, CPU, steps=10))
    batch = next(stream_of(SETTINGS, WorkerContext(torch.device("cpu"), rank=0, ranks=2)).epoch(0))
    networks(batch)
    assert furthest(shown(networks)["generator"], workers[1][0]["frozen"]["generator"]) > 1e-4


def test_batchnorm_is_all_that_sets_workers_apart(workers: Workers) -> None:
    alone = twins(CPU)
    assert len(alone) > 20
    for result in workers[1]:
        for name, value in alone.items():
            assert furthest({name: result["twins"][name]}, {name: value}) < 1e-4 * float(value.abs().max()), name
    # Of different halves each worker has other statistics, and so another gradient.
    apart = one_step(SETTINGS, CPU, frozen=False)["gradients"]
    together = workers[1][0]["training"]["gradients"]
    assert furthest(together, apart) > 1e-2 * max(float(value.abs().max()) for value in apart.values())


def test_workers_hold_the_same_weights_bit_for_bit(workers: Workers) -> None:
    first, second = (result["steps"] for result in workers[1])
    assert first["done"] == second["done"] == 4
    for name in ("generator", "discriminator", "judged"):
        one, other = first["before"][name], second["before"][name]
        learnt = [key for key in one if "running" not in key]
        assert len(learnt) > 10
        assert same({key: one[key] for key in learnt}, {key: other[key] for key in learnt}), name
        statistics = [key for key in one if "running" in key]
        assert not any(torch.equal(one[key], other[key]) for key in statistics), "they had the same data"


def test_average_buffers_makes_statistics_the_mean(workers: Workers) -> None:
    first, second = (result["steps"] for result in workers[1])
    for name in ("generator", "discriminator", "judged"):
        assert same(first["after"][name], second["after"][name])
        for key, value in first["after"][name].items():
            if "running" in key:
                mean = (first["before"][name][key].double() + second["before"][name][key].double()) / 2
                assert torch.allclose(value.double(), mean, rtol=1e-6), key
            else:
                assert torch.equal(value, first["before"][name][key]), key


def test_workers_know_their_places_and_add_up(workers: Workers) -> None:
    contexts = [result["context"] for result in workers[1]]
    assert [(context.rank, context.ranks) for context in contexts] == [(0, 2), (1, 2)]
    assert all(result["sum"].tolist() == [2.0, 1.0] for result in workers[1])
    assert all(result["sum"].dtype == torch.float64 for result in workers[1])
    for result in workers[1]:
        assert result["mean"][0].tolist() == [[0.0, 4.5], [1.5, 6.0], [3.0, 7.5]]
        assert result["mean"][1].item() == 0.5


def test_an_error_of_any_worker_is_raised_on_all(workers: Workers) -> None:
    for result in workers[1]:
        assert result["agreed"] is None
        assert result["refused"] == "TrainingError: only the second fails"
        assert result["first"] == "TrainingError: worker 0"


def test_a_loss_that_breaks_on_one_worker_stops_all(workers: Workers) -> None:
    for result in workers[1]:
        assert "at step 1 the loss part 'total' is not finite (nan)" in result["broken"]


def test_a_whole_run_of_two_workers(workers: Workers) -> None:
    path, results = workers
    rows = read_history(folder(path / "run"))
    assert [(row["epoch"], row["step"], row["images"], row["workers"]) for row in rows] == [
        (1, 2, 12, 2),
        (2, 4, 12, 2),
        (3, 6, 12, 2),
    ]
    timed = ("seconds", "images_per_second", "data_wait")
    first, second = (result["run"] for result in results)
    assert [*first["rows"], *first["again"]] == rows
    for mine, theirs in zip(first["rows"] + first["again"], second["rows"] + second["again"], strict=True):
        assert {key: mine[key] for key in mine if key not in timed} == {
            key: theirs[key] for key in theirs if key not in timed
        }
    assert len(first["lines"]) == 4
    assert second["lines"] == [], "one worker speaks"
    assert len(list((path / "run" / "tensorboard").iterdir())) == 2, "one worker writes, in two runs"


def test_an_output_that_the_first_worker_cannot_write_ends_all(workers: Workers) -> None:
    for result in workers[1]:
        assert "pictures/epoch-0001.jpg" in result["blocked"]


def test_all_workers_leave_where_one_is_told_to_end(workers: Workers) -> None:
    path, results = workers
    assert [result["told"] for result in results] == [
        "a worker received SIGTERM, after epoch 0, step 1 of the next"
    ] * 2
    state = load_state(folder(path / "told"), CPU.device)
    assert state is not None
    assert (state["epoch"], state["step"], state["networks"]["step"]) == (0, 1, 1)


def test_gradients_in_bfloat16_stay_near(workers: Workers) -> None:
    first, second = (result["near"] for result in workers[1])
    for name in ("float32 weights", "bfloat16 weights"):
        assert first[name] == second[name], "the workers have the same weights"
    exact, rounded = np.array(first["float32"]), np.array(first["bfloat16"])
    assert len(exact) == 4
    assert rounded[0] == exact[0]
    assert np.abs(rounded / exact - 1).max() < 0.02
    assert not np.array_equal(rounded[1:], exact[1:])
    # What was exchanged has 8 bits of mantissa; what was not has 24.
    for name, few in (("float32 gradient", False), ("bfloat16 gradient", True)):
        values = torch.tensor(first[name])
        assert torch.equal(values.bfloat16().float(), values) == few


def test_the_run_of_two_workers_goes_on_with_one(workers: Workers, tmp_path: Path) -> None:
    shutil.copytree(workers[0] / "run", tmp_path, dirs_exist_ok=True)
    run_of(config(batch=6, epochs=4), folder(tmp_path))()
    rows = read_history(folder(tmp_path))
    assert [row["workers"] for row in rows] == [2, 2, 2, 1]
