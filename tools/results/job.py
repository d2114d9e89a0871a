"""Trainings one after the other, their evaluation, and the tables; what is done already is not done again."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from inpaint_core.cli import check_extra
from inpaint_core.config import load_config, to_yaml
from inpaint_core.errors import ConfigError, ResourceError
from inpaint_core.images.collections.sources import list_photographs
from inpaint_core.progress import PrintLine
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.evaluation.config import RUN_CHECKPOINT, EvaluateConfig
from inpaint_core.training.history import HISTORY, read_history
from inpaint_core.training.run_folder import check_apart, check_config
from tools.results.document import (
    FILLS,
    HOLE_SIZES,
    Trained,
    check_document,
    origin,
    read_document,
    table,
    with_table,
)
from tools.results.machine import machine
from tools.results.models import (
    EPOCHS_MEASURED,
    SMALL,
    Request,
    check_request,
    config_file,
    kind_of,
    measured_run_of,
    measuring,
    model_config,
    overrides,
    run_of,
)
from tools.results.state import State, continued, read_state, with_epochs, write_state

Train = Callable[[Path, Sequence[str]], None]
"""Trains to the end what a config file and overrides say, or goes on with it; raises what ends it."""

SHEET = Path("benchmarks", "results-center.jpg")
"""The sheet of the first table, beside the document."""

_SHEET_QUALITY = 88


@dataclass(frozen=True)
class Job:
    """What a checked request comes to.

    Args:
        request: what was asked for.
        storage: of the output.
        configs: of the models, with the number of epochs of their files.
        state: so far.
    """

    request: Request
    storage: Storage
    configs: Mapping[str, TrainConfig]
    state: State

    @property
    def kinds(self) -> dict[str, str]:
        """Kind of each model."""
        return {model: kind_of(config) for model, config in self.configs.items()}

    def trained(self, model: str) -> Trained:
        """What a model's run has behind it; 0 epochs where there is none."""
        run = open_storage(run_of(self.request, model), self.configs[model].s3)
        rows = read_history(run) if run.exists(HISTORY) else []
        return Trained(rows[-1]["epoch"] if rows else 0, sum(row["seconds"] for row in rows))

    def done(self, model: str) -> bool:
        """Whether a model's run has its epochs and its best generator."""
        run = open_storage(run_of(self.request, model), self.configs[model].s3)
        epochs = self.state.epochs.get(model)
        return epochs is not None and self.trained(model).epochs >= epochs and run.exists(RUN_CHECKPOINT)


def prepare(request: Request) -> Job:
    """Check all that can be wrong before anything starts; writes nothing.

    Raises:
        UserError: options, settings, photographs, the document, or what the output holds.
    """
    check_request(request)
    check_extra("train", "tensorboard", "tensorboardX")
    check_document(request.document)
    settings = (*SMALL, *request.settings)
    configs = {model: model_config(request, settings, model) for model in request.models}
    gpu = _trains_on_gpu(configs[request.models[0]])
    if gpu:
        settings = request.settings
        configs = {model: model_config(request, settings, model) for model in request.models}
    for model, config in configs.items():
        check_config(config)
        output = open_storage(run_of(request, model), config.s3)
        check_apart("--data", request.data, output, config.s3)
        check_apart("--validation", request.validation, output, config.s3)
    first = configs[request.models[0]]
    reading = first.reading
    images = len(list_photographs(request.data, first.s3, reading.extensions, reading.limit, name="--data")[1])
    list_photographs(request.validation, first.s3, reading.extensions, None, name="--validation")
    batch = first.batch or first.batch_per_worker or 1  # with `batch=null`, of one worker at least
    if images < batch:
        raise ConfigError(f"--data: {images} training photographs are fewer than one batch of {batch}")
    if request.minutes is not None and request.measured < batch:
        raise ConfigError(f"--measured: {request.measured} photographs are fewer than one batch of {batch}")
    storage = open_storage(request.output, first.s3)
    here = State(
        minutes=request.minutes,
        epochs_each=request.epochs,
        settings=settings,
        images=images,
        measured=min(request.measured, images),
        machines=(machine(gpu=gpu, threads=first.scaling.cpus_per_worker),),
    )
    job = Job(request, storage, configs, continued(read_state(storage), here, storage.uri))
    return job if _missing_speeds(job) else _with_epochs(job)


def plan_lines(job: Job) -> list[str]:
    """What would be trained, and for how long."""
    state = job.state
    lines = [f"{state.budget}; {state.images:,} training photographs; {'; '.join(state.machines)}"]
    if state.settings:
        lines.append(f"settings: {' '.join(state.settings)}")
    measured = set(state.speeds)
    total, unknown = 0.0, False
    for model, kind in job.kinds.items():
        epochs, done = state.epochs.get(model), job.trained(model).epochs
        if job.done(model):
            lines.append(f"{model}: done, {epochs} epochs")
            continue
        if epochs is None:
            first = (
                ""
                if kind in measured
                else f"; first, {EPOCHS_MEASURED} epochs of {state.measured:,} photographs measure its speed ({kind})"
            )
            measured.add(kind)
            total += 60 * (state.minutes or 0)
            lines.append(f"{model}: as many epochs as fit into {state.minutes:g} minutes{first}")
            continue
        seconds = state.seconds(kind, epochs - done)
        unknown |= seconds is None
        total += seconds or 0
        how_long = (
            "time unknown" if seconds is None else f"about {_duration(seconds)}, {state.speeds[kind]:.1f} images/s"
        )
        lines.append(f"{model}: {epochs} epochs{f', {done} of them done' if done else ''}; {how_long}")
    if unknown:
        lines.append("in all: time unknown; a budget of minutes measures the speeds first")
    else:
        lines.append(f"in all about {_duration(total)}, and the evaluation" if total else "all is trained")
    return lines


def write_results(job: Job, train: Train, print_line: PrintLine) -> None:
    """Train what is not trained, evaluate, and write tables and sheet.

    Args:
        job: from `prepare`.
        train: trains a model.
        print_line: takes lines for a person.

    Raises:
        UserError: what a training or an evaluation cannot do.
    """
    write_state(job.storage, job.state)
    job = _measured(job, train, print_line)
    for line in plan_lines(job):
        print_line(line)
    for model in job.configs:
        if job.done(model):
            continue
        job = _with_state(job, replace(job.state, evaluated=None))  # an earlier one was of other weights
        epochs = job.state.epochs[model]
        print_line(f"{model}: training, {epochs} epoch{'s' if epochs != 1 else ''}")
        train(config_file(model), overrides(job.request, job.state.settings, model, epochs))
        if not job.done(model):
            raise ResourceError(
                f"{run_of(job.request, model)}: the training ended without its {epochs} epochs; start again"
            )
    evaluations = {name: _evaluation(job, name, size) for name, size in HOLE_SIZES.items()}
    if job.state.evaluated is None or not all(map(_is_evaluated, evaluations.values())):
        from inpaint_core.training.evaluation.job import run_evaluation

        job = _with_state(job, replace(job.state, evaluated=None))
        for config in evaluations.values():
            run_evaluation(config, print_line)
        job = _with_state(job, replace(job.state, evaluated=date.today().isoformat()))
    _write_document(job, evaluations)
    print_line(f"{job.request.document}: tables {', '.join(HOLE_SIZES)}; sheet {job.request.document.parent / SHEET}")


def _measured(job: Job, train: Train, print_line: PrintLine) -> Job:
    """With the speed of every kind and the epochs of every model."""
    for kind, model in _missing_speeds(job).items():
        print_line(f"{model}: measuring the speed on {job.state.measured:,} photographs ({kind})")
        train(config_file(model), measuring(job.request, job.state.settings, model))
        run = open_storage(measured_run_of(job.request, model), job.configs[model].s3)
        speed = float(read_history(run)[-1]["images_per_second"])
        job = _with_state(job, replace(job.state, speeds={**job.state.speeds, kind: speed}))
        for key in ("last.pt", "last.safetensors", RUN_CHECKPOINT):  # up to a gigabyte, and of no use any more
            run.delete(key)
    return _with_state(job, _with_epochs(job).state)


def _missing_speeds(job: Job) -> dict[str, str]:
    """Kinds whose speed is needed and not known, each with its first model."""
    missing: dict[str, str] = {}
    if job.state.minutes is not None:
        for model, kind in job.kinds.items():
            if model not in job.state.epochs and kind not in job.state.speeds:
                missing.setdefault(kind, model)
    return missing


def _with_epochs(job: Job) -> Job:
    most = {model: config.epochs for model, config in job.configs.items()}
    return replace(job, state=with_epochs(job.state, job.kinds, most))


def _with_state(job: Job, state: State) -> Job:
    if state != job.state:
        write_state(job.storage, state)
    return replace(job, state=state)


def _trains_on_gpu(config: TrainConfig) -> bool:
    from inpaint_core.device import choose_device

    return choose_device(config.scaling.device, "scaling.device").type == "cuda"


def _evaluation(job: Job, name: str, hole_size: int) -> EvaluateConfig:
    request, config = job.request, job.configs[job.request.models[0]]
    reached = [setting for setting in request.settings if setting.startswith("s3.")]
    plain = load_config(EvaluateConfig, None, [*reached, f"data={request.validation}"])
    return replace(
        plain,
        checkpoints=tuple(run_of(request, model) for model in request.models),
        names=request.models,
        fills=FILLS,
        holes="center",
        hole_size=hole_size,
        output=f"{request.output.rstrip('/')}/evaluation/{name}",
        device=config.scaling.device,
    )


def _is_evaluated(config: EvaluateConfig) -> bool:
    output = open_storage(config.output, config.s3)
    if not output.exists("table.md") or not output.exists("evaluate.yaml"):
        return False
    return output.read("evaluate.yaml") == to_yaml(config).encode()


def _write_document(job: Job, evaluations: Mapping[str, EvaluateConfig]) -> None:
    trained = {model: job.trained(model) for model in job.configs}
    path = job.request.document
    text = read_document(path)
    for name, config in evaluations.items():
        per_image = pq.read_table(io.BytesIO(open_storage(config.output, config.s3).read("per_image.parquet")))
        rows = table(per_image, trained, published=config.hole_size == HOLE_SIZES["center"])
        evaluated = len(per_image) // (len(trained) + len(FILLS))
        text = with_table(text, name, f"{origin(job.request, job.state, evaluated)}{rows}", path)
    _write_sheet(open_storage(evaluations["center"].output, evaluations["center"].s3), path.parent / SHEET)
    path.write_text(text, encoding="utf-8")


def _write_sheet(evaluation: Storage, path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(io.BytesIO(evaluation.read("sheet.png"))) as sheet:
        sheet.convert("RGB").save(path, "JPEG", quality=_SHEET_QUALITY)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
