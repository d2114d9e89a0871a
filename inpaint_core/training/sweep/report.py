"""The answer of a sweep: a row per trial and epoch, the best config, a summary to read, and plots."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inpaint_core.config import to_yaml
from inpaint_core.metrics.names import Metric
from inpaint_core.storage import Storage
from inpaint_core.training.config import LossConfig
from inpaint_core.training.history import SCHEMA as HISTORY_SCHEMA
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.points import label
from inpaint_core.training.sweep.results import (
    PointResult,
    TrialResult,
    at_epoch,
    by_point,
    common_epoch,
    front,
    shown_metrics,
    trial_results,
)

TABLE, BEST, SUMMARY = "trials.parquet", "best.yaml", "summary.md"

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
class Report:
    """The last output of a sweep: a line, and the best loss (None: no trial has finished)."""

    line: str
    best: LossConfig | None


def write_report(config: TuneConfig, output: Storage) -> Report:
    """Write table, best config, summary and plots below the sweep's output.

    Raises:
        WeightsError: a trial's files are damaged.
        StorageError: the output cannot be read or written.
    """
    from inpaint_core.training.sweep.plots import write_plots

    trials = trial_results(config, output)
    points = by_point(trials, config.objectives[0])
    epoch = common_epoch(trials)
    level = at_epoch(trials, config.objectives[0], epoch)
    table = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(_rows(trials)), schema=SCHEMA), table)
    output.write(TABLE, table.getvalue())
    written = write_plots(output, config, level, epoch)
    output.write(SUMMARY, summary(config, points, level, epoch, written).encode())
    best = points[0] if points and points[0].best else None
    if best is None:
        output.delete(BEST)  # of an earlier start
        return Report(f"no trial has finished: see {output.uri}/{SUMMARY}", None)
    metric = config.objectives[0]
    checkpoint = replace(config.training.checkpoint, metric=metric)
    place = f"{config.output.rstrip('/')}/best"
    output.write(BEST, to_yaml(replace(config.training, loss=best.loss, checkpoint=checkpoint, output=place)).encode())
    line = f"best {metric} {best.mean(metric):.4f}: {label(best.loss)}; {output.uri}/{BEST} and {SUMMARY}"
    return Report(line, best.loss)


def summary(
    config: TuneConfig, points: Sequence[PointResult], level: Sequence[PointResult], epoch: int, pictures: Sequence[str]
) -> str:
    """The report in Markdown.

    Args:
        config: the sweep's.
        points: what the finished trials reached (`by_point`).
        level: all trials after `epoch` (`at_epoch`).
        epoch: that all trials reached.
        pictures: files to show.
    """
    metric = config.objectives[0]
    ends: dict[str, int] = {}
    for point in points:
        for result in point.trials:
            status = result.known.status or "not finished yet"
            ends[status] = ends.get(status, 0) + 1
    lines = [
        f"# Sweep of {len(points)} losses, {len(config.seeds)} seed{'s' if len(config.seeds) > 1 else ''} each",
        "",
        f"Trials: {', '.join(f'{count} {status}' for status, count in sorted(ends.items()))}. Figures are means over seeds, "
        "± standard deviation.",
        "",
        "## At the end",
        "",
        f"The best epoch of each finished trial by `{metric}`. Losses with most finished trials first, then by "
        f"`{metric}`.",
        "",
        *_table(config, points, "finished"),
    ]
    if epoch and any(len(result.rows) != epoch for point in points for result in point.trials):
        lines += [
            f"## After epoch {epoch}",
            "",
            "All trials that reached this epoch, including those stopped later. The plots show this epoch.",
            "",
            *_table(config, level, "reached it"),
        ]
    failed = [result.known for point in points for result in point.trials if result.known.error]
    if failed:
        lines += [
            "## Failed",
            "",
            *(f"- {known.trial.point}, seed {known.trial.seed}: {known.error}" for known in failed),
        ]
        lines.append("")
    return "\n".join([*lines, *(f"![{name}]({name})\n" for name in pictures)])


def _table(config: TuneConfig, points: Sequence[PointResult], counted: str) -> list[str]:
    several = len(config.objectives) > 1
    best = {id(point) for point in front(points, config.objectives)}
    metrics = shown_metrics(config.objectives)
    head = ["loss", "trials", "epochs", *metrics, *(["front"] if several else [])]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for point in points:
        count = f"{len(point.best)} of {len(point.trials)} {counted}"
        epochs = "/".join(str(len(result.rows)) for result in point.trials)
        cells = [label(point.loss), count, epochs, *(_cell(point, name) for name in metrics)]
        if several:
            cells.append("yes" if id(point) in best else "")
        lines.append(f"| {' | '.join(cells)} |")
    if several:
        objectives = " and ".join(f"`{name}`" for name in config.objectives)
        lines += ["", f"`front`: no other loss is at least as good in {objectives} and better in one."]
    return [*lines, ""]


def _cell(point: PointResult, metric: Metric) -> str:
    mean, spread = point.mean(metric), point.spread(metric)
    if mean is None:
        return ""
    digits = 2 if metric in ("table_psnr", "hole_psnr", "sharpness") else 4
    return f"{mean:.{digits}f}" + (f" ± {spread:.{digits}f}" if spread is not None else "")


def _rows(trials: Sequence[TrialResult]) -> list[dict[str, Any]]:
    rows = []
    for result in trials:
        trial, loss = result.known.trial, result.known.trial.loss
        head = {
            "trial": trial.name,
            "point": trial.point,
            "seed": trial.seed,
            "status": result.known.status,
            "adversarial": loss.adversarial,
            "adversarial_weight": loss.adversarial_weight,
            "reconstruction_weight": loss.reconstruction_weight,
            "l1": loss.l1,
            "l2": loss.l2,
            "ssim": loss.ssim,
            "ms_ssim": loss.ms_ssim,
        }
        rows += [{**head, **row} for row in result.rows] or [head]
    return rows
