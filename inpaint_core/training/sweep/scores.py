"""Which results no other beats."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]]) -> list[int]:
    """Indices of the points that no other is at least as good as in all scores and better in one; in their order."""

    def beaten(point: Sequence[float]) -> bool:
        return any(
            all(mine <= its for mine, its in zip(point, other, strict=True)) and list(point) != list(other)
            for other in points
        )

    return [index for index, point in enumerate(points) if not beaten(point)]
