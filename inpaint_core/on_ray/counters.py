"""What the removal job counts for Prometheus, beside Ray's own metrics; `cluster/grafana` draws it."""

from __future__ import annotations

from collections import Counter as Counts

import pyarrow as pa
from ray.util.metrics import Counter, Gauge


class RemovalCounters:
    """Counts of one worker process, from its records."""

    def __init__(self) -> None:
        self._images = Counter("inpaint_images", "Images that were done, by the status of their record.", ("status",))
        self._seconds = Counter("inpaint_stage_seconds", "Seconds that workers spent, by stage.", ("stage",))

    def add(self, records: pa.Table) -> None:
        """Count records (`inpaint_core.removal.record.SCHEMA`)."""
        for status, count in Counts(records["status"].to_pylist()).items():
            self._images.inc(count, {"status": status})
        stages: Counts[str] = Counts()
        for seconds in records["seconds"].to_pylist():
            stages.update({stage: value for stage, value in (seconds or {}).items() if value})
        for stage, value in stages.items():
            self._seconds.inc(value, {"stage": stage})


class Waiting:
    """How many images the driver of a job has not had a record of yet."""

    def __init__(self, images: int) -> None:
        self._gauge = Gauge("inpaint_images_waiting", "Images of the running job that are not done yet.")
        self._images = images
        self._gauge.set(images)

    def less(self, images: int) -> None:
        """So many more are done."""
        self._images -= images
        self._gauge.set(self._images)
