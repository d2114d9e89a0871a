"""Plots of a sweep, drawn without a display."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from inpaint_core.images.formats.codec import open_image
from inpaint_core.storage import MissingObject, Storage
from inpaint_core.training.history import PICTURE_GAP
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.points import l1_share, label
from inpaint_core.training.sweep.results import PointResult, front, shown_metrics

_ROWS, _COLUMNS = 4, 14  # of the sheet of pictures


def write_plots(output: Storage, config: TuneConfig, points: Sequence[PointResult], epoch: int) -> list[str]:
    """Draw what there is to draw below the sweep's output.

    Args:
        output: the sweep's.
        config: the sweep's.
        points: all trials after `epoch`.
        epoch: that all trials reached.

    Returns:
        The names of the files.
    """
    draw: dict[str, Callable[[], Figure | None]] = {
        "metrics.png": lambda: _over_share(config, points, epoch),
        "adversary.png": lambda: _over_adversary(config, points, epoch),
        "curves.png": lambda: _curves(config, points),
        "front.png": lambda: _front(config, points, epoch),
        "pictures.png": lambda: _pictures(output, config.training.network.size, points, epoch),
    }
    written = []
    for name, make in draw.items():
        figure = make()
        if figure is None:
            continue
        file = io.BytesIO()
        FigureCanvasAgg(figure).print_png(file)  # type: ignore[no-untyped-call]
        output.write(name, file.getvalue())
        written.append(name)
    return written


def _over_share(config: TuneConfig, points: Sequence[PointResult], epoch: int) -> Figure | None:
    """Each metric over the share of L1."""
    kinds: dict[str, list[tuple[float, PointResult]]] = {}
    for point in points:
        share = l1_share(point.loss)
        if point.best and share is not None and not point.loss.l2:
            weight = point.loss.adversarial_weight
            adversary = f"{point.loss.adversarial} {weight:.2g}" if weight else "no adversary"
            kinds.setdefault(f"{adversary}, {_structure(point)}", []).append((share, point))
    return _metrics(config, kinds, f"over the share of L1, after epoch {epoch}") if kinds else None


def _over_adversary(config: TuneConfig, points: Sequence[PointResult], epoch: int) -> Figure | None:
    """Each metric over the weight of the adversary, where that was varied."""
    kinds: dict[str, list[tuple[float, PointResult]]] = {}
    for point in points:
        weight = point.loss.adversarial_weight
        if point.best and weight:
            share = l1_share(point.loss)
            rest = "L2" if share is None or point.loss.l2 else f"{share:.2g} L1, {_structure(point)}"
            kinds.setdefault(f"{point.loss.adversarial}, {rest}", []).append((weight, point))
    if len({weight for group in kinds.values() for weight, _ in group}) < 2:
        return None
    return _metrics(config, kinds, f"over the weight of the adversary, after epoch {epoch}", scale="log")


def _structure(point: PointResult) -> str:
    window = ", Gaussian L1" if point.loss.l1_window == "gaussian" else ""
    return f"MS-SSIM{window}" if point.loss.ms_ssim else f"SSIM{window}"


def _metrics(
    config: TuneConfig, kinds: Mapping[str, list[tuple[float, PointResult]]], title: str, scale: str = "linear"
) -> Figure:
    """A plot for each metric: a dot for each trial, a line through the means of one kind of loss."""
    shown = shown_metrics(config.objectives)
    figure = Figure(figsize=(14, 3.2 * -(-len(shown) // 4)), layout="constrained")
    for axes, metric in zip(_grid(figure, len(shown)), shown, strict=True):
        for kind, group in sorted(kinds.items()):
            places, means = [], []
            for place, point in sorted(group, key=lambda pair: pair[0]):
                places.append(place)
                means.append(point.mean(metric) or 0.0)
            (line,) = axes.plot(places, means, marker="_", label=kind)
            for place, point in group:
                values = point.values(metric)
                axes.plot([place] * len(values), values, ".", color=line.get_color())
        axes.set_title(metric)
        axes.set_xscale(scale)
    figure.suptitle(title)
    if len(kinds) <= 8:
        figure.axes[0].legend(fontsize="small")
    return figure


def _grid(figure: Figure, count: int) -> list[Axes]:
    columns = 4
    return [figure.add_subplot(-(-count // columns), columns, place + 1) for place in range(count)]


def _curves(config: TuneConfig, points: Sequence[PointResult]) -> Figure | None:
    """The first objective of each trial by epoch; those that were stopped end early."""
    metric = config.objectives[0]
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    drawn = 0
    for number, point in enumerate(points):
        for place, result in enumerate(point.trials):
            known = [row for row in result.rows if row[metric] is not None]
            if known:
                name = label(point.loss) if not place and number < 12 else None
                epochs, values = [row["epoch"] for row in known], [row[metric] for row in known]
                axes.plot(epochs, values, marker=".", color=f"C{number % 10}", label=name)
                drawn += 1
    if not drawn:
        return None
    axes.set_xlabel("epoch")
    axes.set_ylabel(metric)
    axes.legend(fontsize="small")
    return figure


def _front(config: TuneConfig, points: Sequence[PointResult], epoch: int) -> Figure | None:
    """The first two objectives against each other, the front marked."""
    if len(config.objectives) < 2:
        return None
    first, second = config.objectives[:2]
    known = [point for point in points if point.mean(first) is not None and point.mean(second) is not None]
    if not known:
        return None
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    best = {id(point) for point in front(known, (first, second))}
    for point in known:
        x, y = point.mean(first) or 0.0, point.mean(second) or 0.0
        axes.errorbar(
            x,
            y,
            xerr=point.spread(first),
            yerr=point.spread(second),
            marker="o" if id(point) in best else "x",
            color="C3" if id(point) in best else "C7",
        )
        axes.annotate(label(point.loss), (x, y), textcoords="offset points", xytext=(6, 4), fontsize="small")
    axes.margins(x=0.2)  # room for the names
    axes.set_xlabel(first)
    axes.set_ylabel(second)
    axes.set_title(f"after epoch {epoch}; red: no other loss is better in both")
    return figure


def _pictures(output: Storage, size: int, points: Sequence[PointResult], epoch: int) -> Figure | None:
    """The same photographs filled by each loss after the same epoch, side by side, from its first trial."""
    columns: list[tuple[str, NDArray[np.uint8]]] = []
    for point in points:
        result = next((result for result in point.trials if len(result.rows) >= epoch > 0), None)
        if result is None:
            continue
        key = f"trials/{result.known.trial.name}/pictures/epoch-{epoch:04}.jpg"
        try:
            sheet = np.asarray(open_image(output.read(key), "JPEG").convert("RGB"))
        except MissingObject:
            continue
        height = (size + PICTURE_GAP) * _ROWS - PICTURE_GAP
        shown, filled, truth = (sheet[:height, place * (size + PICTURE_GAP) :][:, :size] for place in range(3))
        if not columns:
            columns += [("input", shown), ("truth", truth)]
        columns.append((label(point.loss), filled))
        if len(columns) == _COLUMNS:
            break
    if not columns:
        return None
    figure = Figure(figsize=(2.1 * len(columns), 2.1 * _ROWS + 0.8), layout="constrained")
    for place, (name, picture) in enumerate(columns):
        axes = figure.add_subplot(1, len(columns), place + 1)
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title(name.replace(", ", "\n"), fontsize="small")
    return figure
