"""What the trials of a sweep reached, and which losses are better: what its report and its plots are made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inpaint_core.metrics.names import METRICS, Metric
from inpaint_core.storage import Storage, open_storage
from inpaint_core.training.config import LossConfig
from inpaint_core.training.history import NO_SCORE, best_row, read_history, score
from inpaint_core.training.sweep.config import TuneConfig
from inpaint_core.training.sweep.outcomes import Known, known_trials
from inpaint_core.training.sweep.points import label
from inpaint_core.training.sweep.scores import pareto_front

_NOT_SHOWN = ("hole_l1", "hole_l2")  # of holes of one size they are those of the table times a constant


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
        best: the rows that it is judged by, one of each trial that counts.
    """

    loss: LossConfig
    trials: list[TrialStory]
    best: list[Mapping[str, Any]]

    def score(self, metric: Metric) -> float:
        """Mean over the rows of what `training.history.score` gives: a blurred and a noisy one do not make a sharp one."""
        values = self.values(metric)
        return statistics.fmean(score(metric, value) for value in values) if values else NO_SCORE

    def mean(self, metric: Metric) -> float | None:
        """Over the rows; None where none has a value."""
        values = self.values(metric)
        return statistics.fmean(values) if values else None

    def spread(self, metric: Metric) -> float | None:
        """Standard deviation over the rows, which differ in their seed alone; None with fewer than two."""
        values = self.values(metric)
        return statistics.stdev(values) if len(values) > 1 else None

    def values(self, metric: Metric) -> list[float]:
        """Of each row."""
        return [row[metric] for row in self.best if row[metric] is not None]


def stories(config: TuneConfig, output: Storage) -> list[TrialStory]:
    """All trials in a sweep's output."""

    def rows(known: Known) -> list[dict[str, Any]]:
        training = known.trial.config(config)
        return read_history(open_storage(training.output, training.s3))

    return [TrialStory(known, rows(known)) for known in known_trials(output)]


def by_point(trials: Sequence[TrialStory], metric: Metric) -> list[PointStory]:
    """Trials by their loss, judged by the best epochs of the finished ones.

    The points with most finished trials come first: where trials that fall behind are stopped, the mean of those that are
    left would flatter a point of which one lucky seed went on. Among equals, the best mean of the metric is first.
    """
    points = []
    for loss, group in _groups(trials).items():
        best = [best_row(metric, story.rows) for story in group if story.known.status == "finished"]
        points.append(PointStory(loss, group, [row for row in best if row is not None]))
    return sorted(points, key=lambda point: (-len(point.best), *_rank(point, metric)))


def at_epoch(trials: Sequence[TrialStory], metric: Metric, epoch: int) -> list[PointStory]:
    """Trials by their loss, judged by one epoch of all that reached it; the best mean of the metric first."""
    points = [
        PointStory(loss, group, [row for story in group for row in story.rows if row["epoch"] == epoch])
        for loss, group in _groups(trials).items()
    ]
    return sorted(points, key=lambda point: _rank(point, metric))


def common_epoch(trials: Sequence[TrialStory]) -> int:
    """The last epoch that every finished and every stopped trial reached; 0: there are none."""
    return min((len(story.rows) for story in trials if story.known.status in ("finished", "stopped")), default=0)


def _groups(trials: Sequence[TrialStory]) -> dict[LossConfig, list[TrialStory]]:
    groups: dict[LossConfig, list[TrialStory]] = {}
    for trial in sorted(trials, key=lambda story: story.known.trial.seed):
        groups.setdefault(trial.known.trial.loss, []).append(trial)
    return groups


def _rank(point: PointStory, metric: Metric) -> tuple[float, str]:
    return -point.score(metric), label(point.loss)


def front(points: Sequence[PointStory], objectives: Sequence[Metric]) -> list[PointStory]:
    """The points that no other beats in all objectives, among those with most rows: one lucky seed beats nobody."""
    most = max((len(point.best) for point in points), default=0)
    known = [
        point
        for point in points
        if len(point.best) == most and all(point.mean(metric) is not None for metric in objectives)
    ]
    scores = [[point.score(metric) for metric in objectives] for point in known]
    return [known[index] for index in pareto_front(scores)]


def shown_metrics(objectives: Sequence[Metric]) -> tuple[Metric, ...]:
    """What tables and plots show: the objectives first, in their order."""
    return tuple(dict.fromkeys((*objectives, *(name for name in METRICS if name not in _NOT_SHOWN))))
