"""The training job on Ray: Ray Data reads and decodes, Ray Train runs the workers."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray
import ray.train
from ray.actor import ActorHandle
from ray.train import FailureConfig, RunConfig

from inpaint_core.errors import ResourceError, UserError
from inpaint_core.networks.weights.load import Weights
from inpaint_core.on_ray.cluster import beside_driver, connect, in_thread, settled
from inpaint_core.on_ray.mailbox import Mailbox
from inpaint_core.on_ray.monitor import RunMonitor, Watch
from inpaint_core.on_ray.run_images import RunImages, read_images, training_data
from inpaint_core.on_ray.worker_setup import Trainer, WorkerSetup
from inpaint_core.on_ray.workers import WorkerResources, worker_bundles, worker_resources
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.feature_weights import load_feature_weights
from inpaint_core.training.history import best_row, read_history
from inpaint_core.training.run_folder import LAST, OutputLease, check_apart, check_config, claim_output
from inpaint_core.training.sharing import check_workers, with_batch

if TYPE_CHECKING:
    from inpaint_core.training.feature_distance import FeatureDistance
    from inpaint_core.training.worker_context import WorkerContext

_SECONDS_OF_A_COLLECTIVE = 1800  # Ray's own


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its output and the row of each epoch (`training.history.SCHEMA`)."""

    output: str
    rows: list[dict[str, Any]]

    def summary(self, config: TrainConfig) -> str:
        """The best epoch, and where its generator is."""
        metric = config.checkpoint.metric
        count = f"{len(self.rows)} epoch{'s' if len(self.rows) != 1 else ''}"
        best = best_row(metric, self.rows)
        if best is None:
            return f"{count}, none with a {metric}: see {self.output}"
        return f"{count}; best {metric} {best[metric]:.4f} in epoch {best['epoch']}: {self.output}/best.safetensors"


def run_training(
    config: TrainConfig,
    *,
    print_line: PrintLine = print,
    images: RunImages | None = None,
    watch: Watch | None = None,
) -> TrainResult:
    """Train, or go on where a run with the same output stopped.

    Args:
        config: the job's config.
        print_line: takes what a user should read, line by line.
        images: those of `config`, where several runs share them; None: they are read.
        watch: who follows the run, and may end it before its last epoch.

    Raises:
        UserError: config, stores, data or resources do not allow the run, or a loss is not finite.
    """
    output = check_run(config)
    features = load_feature_weights(config)
    output.on_outage(print_line)
    initial = None
    if images is None and not output.exists(LAST):  # a run that goes on has its own weights
        initial = initial_weights(config)
    if isinstance(config.scaling.workers, int):
        config = with_batch(config, config.scaling.workers)
    settled_batch = config.batch_per_worker is None  # otherwise it follows from the cluster
    done = _finished(output, config, print_line) if settled_batch else None
    if done is not None:
        return done
    connect()
    scaling = config.scaling
    resources = settled(
        lambda nodes: worker_resources(scaling, nodes),
        worker_bundles(scaling),
        scaling.wait_for_nodes,
        print_line,
    )
    config = with_batch(config, resources.workers)
    for workers in resources.numbers or (resources.workers,):
        check_workers(config, workers, gpu=resources.gpu)
    done = _finished(output, config, print_line) if not settled_batch else None
    if done is not None:
        return done
    print_line(str(resources))
    if images is None:
        images = read_images(config, print_line, initial)
    print_line("starting the workers")  # which takes up to a minute
    mailbox = beside_driver(Mailbox)
    try:
        lease, on_start = OutputLease.take(output), watch.on_start if watch else None
        _fit(_Job(config, lease, images, features, mailbox, resources, on_start), print_line, watch)
    finally:
        if ray.is_initialized():
            ray.kill(mailbox)  # handles to it are left in the frames of what was raised
    return TrainResult(output.uri, read_history(output))


def _finished(output: Storage, config: TrainConfig, print_line: PrintLine) -> TrainResult | None:
    """Take the output; the result of the run that is there, if that has all its epochs."""
    if not claim_output(output, config):
        return None
    rows = read_history(output)
    if not rows or rows[-1]["epoch"] < config.epochs:
        return None
    print_line(f"{output.uri}: {rows[-1]['epoch']} epochs are done already")
    return TrainResult(output.uri, rows)


def check_run(config: TrainConfig) -> Storage:
    """Refuse what no run can do; returns the store of the output.

    Raises:
        UserError: settings that do not go together, or an output among the photographs.
    """
    check_config(config)
    output = open_storage(config.output, config.s3)
    for key, uri in (("data", config.data), ("validation.data", config.validation.data)):
        check_apart(key, uri, output, config.s3)
    return output


def initial_weights(config: TrainConfig) -> bytes | None:
    """What `initial` names: see `training.initial.read_initial`. Loads torch where it names something."""
    if config.initial is None:
        return None
    from inpaint_core.training.initial import read_initial

    return read_initial(config)


@dataclass(frozen=True)
class _Job:
    """What every worker is given."""

    config: TrainConfig
    lease: OutputLease
    images: RunImages
    features: Weights | None
    """The checkpoint of the network whose feature maps are compared."""
    mailbox: ActorHandle[Mailbox]
    resources: WorkerResources
    on_start: Callable[[], None] | None
    """Called by the first worker before anything else."""


def _fit(job: _Job, print_line: PrintLine, watch: Watch | None) -> None:
    """Run the workers to their end, or to that which `watch` wants."""
    run_monitor = RunMonitor(job.mailbox, print_line, watch)

    def fit() -> None:
        with tempfile.TemporaryDirectory(prefix="ray-train-") as folder:
            Trainer(
                _work,
                train_loop_config={"job": job},
                scaling_config=job.resources.scaling_config(),
                # Checkpoints are this project's own, in the run's output: what Ray keeps here is of no use later.
                run_config=RunConfig(
                    name="run",
                    storage_path=folder,
                    failure_config=FailureConfig(max_failures=job.config.scaling.max_failures),
                    callbacks=run_monitor.callbacks(),  # type: ignore[arg-type]  # annotated for Ray Tune
                ),
                backend_config=WorkerSetup(
                    "nccl" if job.resources.gpu else "gloo",
                    # The others wait while the first worker writes, an outage of the store included.
                    timeout=_SECONDS_OF_A_COLLECTIVE + math.ceil(60 * job.config.s3.retry_minutes),
                    leave=job.resources.numbers is not None,
                ),
            ).fit()

    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # how soon an epoch is known of
    if job.resources.numbers is not None:
        # How long it tries to start as many workers as before, with a machine that has just gone.
        os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "15")
    raised = in_thread(fit, "ray-train", run_monitor)
    error = run_monitor()
    if error is not None:
        raise error
    if raised is not None and not run_monitor.stopped:
        raise _explained(raised, job) from raised


def _explained(error: BaseException, job: _Job) -> UserError:
    """What made the workers fail for good, in one line that says where to read on."""
    failures: dict[int, BaseException] = getattr(error, "worker_failures", None) or {0: error}
    rank, reason = sorted(failures.items())[0]
    lines = [line.strip() for line in str(reason).splitlines() if line.strip()] or [type(reason).__name__]
    starts = job.config.scaling.max_failures + 1
    return ResourceError(
        f"training: the workers failed{f' {starts} times' if starts else ''}, last worker {rank}: {lines[-1]}. Ray's "
        "logs (/tmp/ray/session_latest/logs/train) have the details; the same command resumes from the last checkpoint"
    )


def _no_report(row: dict[str, Any]) -> None:
    """In place of Ray Train's report."""


def _work(parameters: dict[str, Any]) -> None:
    """One worker, in its own process."""
    import torch
    from ray.train.torch import get_device

    from inpaint_core.on_ray.leaving import hearing
    from inpaint_core.training.data.feeders import feeder_count
    from inpaint_core.training.loop import TrainingLoop
    from inpaint_core.training.worker_context import WorkerContext, set_up_device

    job: _Job = parameters["job"]
    feeders = feeder_count(job.config.scaling.feeders, job.resources.cpus, gpu=job.resources.gpu)
    # Where the CPUs train, the feeders have little to do, and the threads keep all of them.
    torch.set_num_threads(max(1, job.resources.cpus - feeders) if job.resources.gpu else job.resources.cpus)
    if job.on_start is not None and ray.train.get_context().get_world_rank() == 0:
        job.on_start()

    def print_line(line: str) -> None:
        job.mailbox.print_line.remote(line)

    device = torch.device("cpu")
    if job.resources.gpu:
        device = get_device()
        torch.cuda.set_device(device)
    try:
        context = WorkerContext.of(job.config.scaling, device, batch=job.config.global_batch)
        set_up_device(job.config.scaling, context.device)
        data = training_data(job.images)
        state, features = _load(job, context)
        held = job.images.initial if state is None else None
        lease = job.lease
        # The history has the epochs; a report may wait for Ray Train, which does not listen when the number of workers changes.
        report = ray.train.report if job.resources.numbers is None else _no_report
        with hearing() as notice:
            loop = TrainingLoop(
                job.config,
                context,
                lease.storage,
                data,
                state,
                print_line=print_line,
                report=report,
                check=lease.check,
                feeders=feeders,
                features=features,
                initial=ray.get(held) if held is not None else None,
                notice=notice,
            )
            loop()
    except UserError as error:
        # All workers raise it together, and end in good order: Ray would start them again, to fail in the same way.
        ray.get(job.mailbox.fail.remote(error))


def _load(job: _Job, context: WorkerContext) -> tuple[dict[str, Any] | None, FeatureDistance | None]:
    """The checkpoint that the run goes on from, and what measures the distance in feature maps; None where there is none.

    Raises:
        UserError: a worker cannot read them; on all workers, so that none waits for another.
    """
    from inpaint_core.training.checkpoint import load_state
    from inpaint_core.training.feature_distance import FeatureDistance

    state = features = error = None
    try:
        state = load_state(job.lease.storage, context.device)
        if job.features is not None:
            features = FeatureDistance(job.features.data, job.features.name, context.device)
    except UserError as raised:
        error = raised
    context.agree(error)
    return state, features
