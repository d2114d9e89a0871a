"""The answer of a sweep: a row per trial and epoch, the best config, a summary to read, and plots."""

from __future__ import annotations

import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.config import to_yaml
from inpaint_core.storage import Storage
from inpaint_core.sweep.config import TuneConfig
from inpaint_core.sweep.outcomes import Known, known_trials
from inpaint_core.sweep.points import label
from inpaint_core.sweep.scores import pareto_front
from inpaint_core.training.config import LossConfig, Metric
from inpaint_core.training.history import SCHEMA as HISTORY_SCHEMA
from inpaint_core.training.history import best_row, read_history, score

TABLE, BEST, SUMMARY = "trials.parquet", "best.yaml", "summary.md"

SHOWN: tuple[Metric, ...] = (
    "table_l1",
    "table_l2",
    "table_psnr",
    "table_ssim",
    "hole_psnr",
    "hole_ssim_centred",
    "sharpness",
)

SCHEMA = pa.schema(
    [
        pa.field("trial", pa.string(), metadata={"doc": "Folder of the trial's run, under `trials/`."}),
        pa.field("point", pa.string(), metadata={"doc": "Its loss in a few words."}),
        pa.field("seed", pa.int64(), metadata={"doc": "Seed of its training."}),
        pa.field(
            "status", pa.string(), metadata={"doc": "`finished`, `stopped`, `diverged`, `failed`; null: running."}
        ),
        pa.field("adversarial", pa.string(), metadata={"doc": "`bce` or `lsgan`."}),
        *(
            pa.field(name, pa.float64(), metadata={"doc": "See the training's `loss`."})
            for name in ("adversarial_weight", "reconstruction_weight", "l1", "l2", "ssim", "ms_ssim")
        ),
        *HISTORY_SCHEMA,
    ]
)


@dataclass(frozen=True)
class TrialStory:
    """A trial with the row of each of its epochs (`training.history.SCHEMA`)."""

    known: Known
    rows: list[dict[str, Any]]


@dataclass(frozen=True)
class PointStory:
    """A loss with what its trials reached.

    Args:
        loss: the point.
        trials: its trials, by seed.
        best: of each finished trial, the row of its best epoch by the first objective.
    """

    loss: LossConfig
    trials: list[TrialStory]
    best: list[Mapping[str, Any]]

    def mean(self, metric: Metric) -> float | None:
        """Over the finished trials; None where none has a value."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def spread(self, metric: Metric) -> float | None:
        """Standard deviation over the seeds; None with fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def values(self, metric: Metric) -> list[float]:
        """Of each finished trial."""
        return [row[metric] for row in self.best if row[metric] is not None]


def stories(config: TuneConfig, output: Storage) -> list[TrialStory]:
    """All trials that a sweep's output tells of."""

    def rows(known: Known) -> list[dict[str, Any]]:
        training = known.trial.config(config)
        return read_history(Storage.open(training.output, training.s3))

    return [TrialStory(known, rows(known)) for known in known_trials(output)]


def by_point(trials: Sequence[TrialStory], metric: Metric) -> list[PointStory]:
    """Trials by their loss, the best mean of the metric first; points without a finished trial last."""
    groups: dict[LossConfig, list[TrialStory]] = {}
    for trial in trials:
        groups.setdefault(trial.known.trial.loss, []).append(trial)
    points = []
    for loss, group in groups.items():
        group = sorted(group, key=lambda story: story.known.trial.seed)
        best = [best_row(metric, story.rows) for story in group if story.known.status == "finished"]
        points.append(PointStory(loss, group, [row for row in best if row is not None]))
    return sorted(points, key=lambda point: (-score(metric, point.mean(metric)), label(point.loss)))


def front(points: Sequence[PointStory], objectives: Sequence[Metric]) -> list[PointStory]:
    """The points whose means no other point beats in all objectives."""
    finished = [point for point in points if all(point.mean(metric) is not None for metric in objectives)]
    scores = [[score(metric, point.mean(metric)) for metric in objectives] for point in finished]
    return [finished[index] for index in pareto_front(scores)]


def write_report(config: TuneConfig, output: Storage) -> str:
    """Write table, best config, summary and plots below the sweep's output; returns a line about the best.

    Raises:
        WeightsError: a trial's files are damaged.
        StorageError: the output cannot be read or written.
    """
    from inpaint_core.sweep.plots import write_plots

    trials = stories(config, output)
    points = by_point(trials, config.objectives[0])
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(_rows(trials)), schema=SCHEMA), table)
    output.write(TABLE, table.getvalue())
    written = write_plots(output, config, points)
    output.write(SUMMARY, summary(config, points, written).encode())
    best = points[0] if points and points[0].best else None
    if best is None:
        return f"no trial has finished: see {output.uri}/{SUMMARY}"
    training = replace(config.training, loss=best.loss, output=f"{config.output.rstrip('/')}/best")
    output.write(BEST, to_yaml(training).encode())
    metric = config.objectives[0]
    return f"best {metric} {best.mean(metric):.4f}: {label(best.loss)}; {output.uri}/{BEST} and {SUMMARY}"


def summary(config: TuneConfig, points: Sequence[PointStory], pictures: Sequence[str]) -> str:
    """The report in Markdown."""
    metric = config.objectives[0]
    best = {id(point) for point in front(points, config.objectives)}
    ends: dict[str, int] = {}
    for point in points:
        for story in point.trials:
            status = story.known.status or "not finished yet"
            ends[status] = ends.get(status, 0) + 1
    head = ["loss", "trials", "epochs", *SHOWN, *(["front"] if len(config.objectives) > 1 else [])]
    lines = [
        f"# Sweep of {len(points)} losses, {len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''} each",
        "",
        f"Trials: {', '.join(f'{count} {status}' for status, count in sorted(ends.items()))}. Of each finished trial, the epoch "
        f"that is best by `{metric}`; means over seeds, ± standard deviation. Best first.",
        "",
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
    ]
    for point in points:
        finished = f"{len(point.best)} of {len(point.trials)} finished"
        epochs = "/".join(str(len(story.rows)) for story in point.trials)
        cells = [label(point.loss), finished, epochs, *(_cell(point, name) for name in SHOWN)]
        if len(config.objectives) > 1:
            cells.append("yes" if id(point) in best else "")
        lines.append(f"| {' | '.join(cells)} |")
    if len(config.objectives) > 1:
        lines += [
            "",
            f"`front`: no other loss is at least as good in {' and '.join(config.objectives)} and better in one.",
        ]
    lines += ["", *(f"![{name}]({name})\n" for name in pictures)]
    return "\n".join(lines)


def _cell(point: PointStory, metric: Metric) -> str:
    mean, spread = point.mean(metric), point.spread(metric)
    if mean is None:
        return ""
    digits = 2 if metric in ("table_psnr", "hole_psnr", "sharpness") else 4
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def _rows(trials: Sequence[TrialStory]) -> list[dict[str, Any]]:
    rows = []
    for story in trials:
        trial, loss = story.known.trial, story.known.trial.loss
        head = {
            "trial": trial.name,
            "point": trial.point,
            "seed": trial.seed,
            "status": story.known.status,
            "adversarial": loss.adversarial,
            "adversarial_weight": loss.adversarial_weight,
            "reconstruction_weight": loss.reconstruction_weight,
            "l1": loss.l1,
            "l2": loss.l2,
            "ssim": loss.ssim,
            "ms_ssim": loss.ms_ssim,
        }
        rows += [{**head, **row} for row in story.rows] or [head]
    return rows
