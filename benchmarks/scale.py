"""What the removal job keeps of millions of keys, without images: `python benchmarks/scale.py [--keys 1000000]`.

Runs the job's own listing, plan, merge of journals and counts over made-up keys and records, at a hundredth, a tenth,
all and four times `--keys`. Each stage has a process of its own, so that the peak of memory is that stage's:

- `import`        nothing but the imports, with which the memory of every other stage begins
- `list`          the input is listed and the manifest written
- `first plan`    `plan_job` with an empty output, where all is to do (lists the input, too)
- `first stream`  the images that are first handed to Ray, in their blocks (plans before, which is not in the seconds)
- `journal`       what the workers of a run over all images leave (made up here, so that only its files say something)
- `merge`         that journal becomes records, and the run's claims end
- `resumed plan`  `plan_job` where all is done: both sides are listed, and compared with the records
- `journal again` what a second run leaves, over every tenth image
- `merge again`   that journal joins the records
- `part plan`     `plan_job` for every tenth folder of what is done: far more is skipped than compared
- `counts`        the counts of a run's last lines and of its exit code (lists the input before, not in the seconds)

As JSON: seconds, peak memory, what was in the temporary folder, number and bytes of the files in the output after the
stage; and all of these at 100 million keys: seconds and journals in proportion to the largest size, the rest on the
straight line through the two largest. Keys are made up as fast as Python can and files lie on the local disk: what a
store takes to answer comes on top.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inpaint_core.removal.job import Job
    from inpaint_core.storage import ObjectInfo

MANY = 100_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--to", type=Path, default=Path(__file__).with_suffix(".json"))
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.keys % 10_000 or (not arguments.stage and arguments.keys % 1_000_000):
        parser.error(
            "--keys: a multiple of 1,000,000; folders of a thousand keys, and a tenth of the folders, must come out even"
        )
    if arguments.stage:
        print(json.dumps(measured(STAGES[arguments.stage], arguments.keys, arguments.output)))
        return
    sizes = [arguments.keys // 100, arguments.keys // 10, arguments.keys, 4 * arguments.keys]
    stages: dict[str, dict[int, dict[str, float]]] = {stage: {} for stage in STAGES}
    for keys in sizes:
        with tempfile.TemporaryDirectory() as output:
            for stage, points in stages.items():
                # Nothing large is imported here: a process inherits the peak of the one that starts it.
                command = [sys.executable, __file__, "--stage", stage, "--keys", str(keys), "--output", output]
                points[keys] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
                print(f"{keys:,} keys, {stage}: {points[keys]}", flush=True)
    result = {"measured": stages, "at 100 million keys": at_many(*sizes[-2:], stages)}
    arguments.to.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["at 100 million keys"], indent=1))


def at_many(low: int, high: int, stages: dict[str, dict[int, dict[str, float]]]) -> dict[str, dict[str, int]]:
    """Each figure at 100 million keys; see the top of this file."""
    from inpaint_core.removal.catalogue.entries import IMAGES_PER_STREAM

    result: dict[str, dict[str, int]] = {}
    for stage, points in stages.items():
        # The driver hands over no more at a time, however many there are.
        more = (max(high, IMAGES_PER_STREAM) if stage == "first stream" else MANY) - high
        result[stage] = {}
        for name, value in points[high].items():
            slope = max(value - points[low][name], 0) / (high - low)
            if name == "seconds" or stage.startswith("journal"):
                slope = value / high
            result[stage][name] = round(value + slope * more)
    for name in ("seconds", "memory_mb", "temporary_mb"):
        del result["journal"][name], result["journal again"][name]
    return result


def measured(stage: Callable[[Job, int], float | None], keys: int, output: Path) -> dict[str, float]:
    """One stage in this process. A stage may tell its seconds itself."""
    # Also what pyarrow would import when it is first used, in the seconds of the stage.
    for module in ("pandas", "pyarrow.dataset", "inpaint_core.removal.job"):
        importlib.import_module(module)
    temporary = watch_temporary_files()
    job = made_up_job(keys, output)
    start = time.perf_counter()
    seconds = stage(job, keys)
    seconds = time.perf_counter() - start if seconds is None else seconds
    files = [os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(output) for name in names]
    return {
        "seconds": round(seconds, 2),
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6),
        "temporary_mb": round(sum(os.fstat(file).st_size for file in temporary) / 1e6, 1),
        "files": len(files),
        "files_mb": round(sum(files) / 1e6, 1),
    }


def watch_temporary_files() -> list[int]:
    """Descriptors of all temporary files that will be made, which keep their sizes to be read at the end."""
    descriptors: list[int] = []
    make = tempfile.TemporaryFile

    def make_and_tell(*arguments: Any, **options: Any) -> Any:
        file = make(*arguments, **options)
        descriptors.append(os.dup(file.fileno()))
        return file

    tempfile.TemporaryFile = make_and_tell
    return descriptors


def made_up_job(keys: int, output: Path) -> Job:
    """A job over an input of so many keys; what its output holds beside `_removal/` is `outputs`, made up as well."""
    from inpaint_core.removal.catalogue.entries import RunId
    from inpaint_core.removal.config import RemoveConfig
    from inpaint_core.removal.job import Job
    from inpaint_core.storage.local import LocalStorage

    class MadeUp(LocalStorage):
        keys = 0

        def list(self, under: str = "") -> Iterator[ObjectInfo]:
            if not under:
                yield from objects(self.keys)
                under = "_removal"
            yield from super().list(under)

    (output / "in").mkdir(exist_ok=True)
    (output / "out").mkdir(exist_ok=True)
    source, target = MadeUp(os.fsencode(output / "in")), MadeUp(os.fsencode(output / "out"))
    source.keys = keys
    return Job(RemoveConfig("in", "out"), source, target, RunId(f"run-{os.getpid()}", "hash"), None, None)


def objects(count: int) -> Iterator[ObjectInfo]:
    """Objects in key order, in folders of a thousand; their ETags look as random as real ones."""
    from datetime import UTC, datetime

    from inpaint_core.storage import ObjectInfo

    modified = datetime(2020, 1, 1, tzinfo=UTC)
    for number in range(count):
        folder, year, month = number // 1000, 2000 + number // 12_000_000, 1 + number // 1_000_000 % 12
        key = f"{year}/{month:02}/{folder % 1000:04}/IMG_{year}{month:02}12_{number:09}.jpg"
        etag = f"{(number + 1) * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128:032x}"
        yield ObjectInfo(key, 2_000_000 + number * 7919 % 3_000_000, etag, modified)


def list_input(job: Job, keys: int) -> None:
    from inpaint_core.removal.catalogue.layout import Layout
    from inpaint_core.removal.catalogue.listing import list_images, write_manifest

    listing = list_images(job.source, job.target, job.config.listing, None)
    write_manifest(job.target, Layout.of(dry_run=False).manifest, listing.manifest)
    assert len(listing.manifest) == keys


def first_plan(job: Job, keys: int) -> None:
    from inpaint_core.removal.job import plan_job

    assert len(plan_job(job, print_nothing).pending) == keys


def first_stream(job: Job, keys: int) -> float:
    from inpaint_core.removal.catalogue.entries import streams
    from inpaint_core.removal.job import plan_job

    pending = plan_job(job, print_nothing).pending
    start = time.perf_counter()
    assert next(streams(pending, workers=100, images_per_batch=8))
    return time.perf_counter() - start


def journal(job: Job, keys: int, every: int = 1) -> None:
    """Three of ten images hold two objects each, one in a hundred has failed."""
    import pyarrow.parquet as pq

    from inpaint_core.removal.catalogue.entries import streams
    from inpaint_core.removal.catalogue.journal import journal_key
    from inpaint_core.removal.catalogue.layout import Layout
    from inpaint_core.removal.catalogue.listing import list_images

    layout = Layout.of(dry_run=False)
    rows = made_up_records(job)
    pending = list_images(job.source, job.target, job.config.listing, None).manifest
    columns = {"key": "key", "source_size": "size", "source_etag": "etag", "output_size": "size"}
    for stream in streams(pending, workers=100, images_per_batch=8):
        for block in stream[::every]:
            records = rows.slice(0, len(block))
            for name, column in columns.items():
                place = records.schema.get_field_index(name)
                records = records.set_column(place, records.schema.field(place), block[column])
            path = Path(job.target.uri) / journal_key(layout, job.run.run_id, block["key"].to_pylist())
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(records, path)


def made_up_records(job: Job, count: int = 1000) -> Any:
    from datetime import UTC, datetime
    from random import Random

    from inpaint_core.removal.record import TIMED_STAGES, FoundObject, Record, to_table

    random = Random(0)
    now = datetime.now(UTC)

    def record(number: int) -> Record:
        made = Record("", 0, "", job.run.run_id, job.run.config_hash, now, "unchanged", width=4000, height=3000)
        made.format, made.objects = "JPEG", []
        made.seconds = {stage: random.random() for stage in TIMED_STAGES}
        if number % 100 == 0:
            made.status, made.stage, made.error = "failed", "decode", "the file ends in the middle of its image data"
        elif number % 10 < 3:
            made.status, made.mask_fraction, made.residual_objects = "cleaned", 0.35 * random.random(), 0
            box = (random.random(), random.random(), random.random(), random.random())
            made.objects = [FoundObject(label, random.random(), box, 5000) for label in ("person", "car")]
            made.seam, made.l1, made.l2, made.psnr, made.ssim = (random.random() for _ in range(5))
            made.outside_max_diff, made.shifted_pixels = 9, 5000
        return made

    return to_table(record(number) for number in range(count))


def merge(job: Job, keys: int) -> None:
    from inpaint_core.removal.catalogue.layout import Layout
    from inpaint_core.removal.catalogue.ledger import merge_journal
    from inpaint_core.removal.catalogue.ownership import settle

    layout = Layout.of(dry_run=False)
    merge_journal(job.target, layout, job.run.run_id)
    settle(job.target, layout)


def resumed_plan(job: Job, keys: int) -> None:
    from inpaint_core.removal.job import plan_job

    job.target.keys = keys  # type: ignore[attr-defined]
    assert len(plan_job(job, print_nothing).pending) == 0


def part_plan(job: Job, keys: int) -> None:
    from dataclasses import replace

    from inpaint_core.removal.catalogue.config import ListingConfig
    from inpaint_core.removal.job import plan_job

    job.target.keys = keys  # type: ignore[attr-defined]
    part = replace(job, config=replace(job.config, listing=ListingConfig(include="*/*/???9/*")))
    plan = plan_job(part, print_nothing)
    assert (len(plan.manifest), len(plan.pending)) == (keys // 10, 0)


def counts(job: Job, keys: int) -> float:
    from inpaint_core.removal.catalogue.layout import Layout
    from inpaint_core.removal.catalogue.listing import list_images
    from inpaint_core.removal.catalogue.totals import totals_of

    manifest = list_images(job.source, job.target, job.config.listing, None).manifest
    start = time.perf_counter()
    assert sum(totals_of(job.target, Layout.of(dry_run=False), manifest).by_status.values()) == keys
    return time.perf_counter() - start


def print_nothing(_: str) -> None:
    pass


STAGES: dict[str, Callable[[Job, int], float | None]] = {
    "import": lambda job, keys: None,
    "list": list_input,
    "first plan": first_plan,
    "first stream": first_stream,
    "journal": journal,
    "merge": merge,
    "resumed plan": resumed_plan,
    "journal again": lambda job, keys: journal(job, keys, every=10),
    "merge again": merge,
    "part plan": part_plan,
    "counts": counts,
}


if __name__ == "__main__":
    main()
