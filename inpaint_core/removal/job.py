"""What a removal job is made of, before and apart from the processes that run it."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from inpaint_core.config import to_tree
from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.removal.config import (
    GeneratorConfig,
    MaskFilesConfig,
    OpencvConfig,
    RemoveConfig,
    TorchscriptConfig,
    Yolov8Config,
)
from inpaint_core.removal.entries import RunId
from inpaint_core.removal.layout import Layout, is_reserved
from inpaint_core.removal.ledger import Plan, forget, merge_journal, plan
from inpaint_core.removal.listing import list_images, prefix_inside, read_manifest_keys, write_manifest
from inpaint_core.storage import Storage
from inpaint_core.weights import Weights, load_weights

# Part of every config hash: raised whenever the code changes what a given config makes of a given image.
RESULT_VERSION = 1

# Seconds after which a file that a killed process left half written is taken for one; no write takes a day.
_LEFTOVER_AGE = 24 * 3600.0


@dataclass(frozen=True)
class Job:
    """A removal job that is ready to run: stores opened, weights loaded. It travels to every worker.

    `detector_weights` and `inpainter_weights` are None for kinds that have none.
    """

    config: RemoveConfig
    source: Storage
    target: Storage
    run: RunId
    detector_weights: Weights | None
    inpainter_weights: Weights | None


@dataclass(frozen=True)
class JobPlan:
    """What there is to do: the keys listed (an Arrow string array), objects left out, and which images are pending."""

    keys: pa.ChunkedArray
    other: int
    plan: Plan


def open_job(config: RemoveConfig) -> Job:
    """Open the stores, load the weights, and refuse what could not work.

    Raises:
        ConfigError: input and output overlap, or a URI is none.
        StorageError: a store cannot be used.
        WeightsError: weights cannot be had or are not the ones meant.
    """
    source = Storage.open(config.input, config.s3)
    target = Storage.open(config.output, config.output_s3 or config.s3)
    if target.contains(source):
        raise ConfigError(
            f"output: {target.uri} is the input or holds it ({source.uri}); results would overwrite or join the "
            "originals; choose another place"
        )
    source.check_readable()
    detector_weights, inpainter_weights = _load_weights(config)
    run = RunId(
        f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        config_hash(config, detector_weights, inpainter_weights),
    )
    return Job(config, source, target, run, detector_weights, inpainter_weights)


def plan_job(job: Job, say: Callable[[str], None]) -> JobPlan:
    """List the input, read what earlier runs did, and say what is left.

    Raises:
        ConfigError: the output holds objects that this job would overwrite and did not write, or masks are images.
        StorageError: nothing to process in the input, or a store cannot be used.
    """
    config, layout = job.config, Layout.of(dry_run=job.config.dry_run)
    job.target.write(layout.probe, b"")  # makes a missing folder, and shows now what would stop the job at its end
    job.target.delete(layout.probe)
    job.target.remove_leftovers(_LEFTOVER_AGE)
    say(f"listing {job.source.uri}")
    listing = list_images(job.source, job.target, config.listing, config.limit)
    manifest = _without_masks(job, listing.manifest)
    other = listing.other + len(listing.manifest) - len(manifest)
    if not len(manifest):
        raise StorageError(
            f"{job.source.uri} holds no image to process ({other:,} other objects); "
            "check input, listing.extensions, listing.include and listing.exclude"
        )
    outputs = {info.key: info.size for info in job.target.list() if not is_reserved(info.key)}
    if config.overwrite:
        forget(job.target, layout)
    records = merge_journal(job.target, layout, job.run.run_id, say)
    if not (config.dry_run or config.overwrite):
        _refuse_foreign(job, layout, manifest, records, outputs)
    write_manifest(job.target, layout.manifest, manifest)
    job.target.write(layout.job, json.dumps(_describe(job), indent=2, ensure_ascii=False).encode())
    todo = plan(
        manifest,
        records,
        None if config.dry_run else outputs,
        job.run.config_hash,
        retry_failed=config.retry_failed,
    )
    return JobPlan(manifest["key"], other, todo)


def config_hash(config: RemoveConfig, *weights: Weights | None) -> str:
    """Hash of every setting that can change a result; weights count by content, not by name."""
    tree = to_tree(config)
    for section in ("detector", "inpainter"):
        tree[section] = {key: value for key, value in tree[section].items() if key not in ("weights", "sha256")}
    if "classes" in tree["detector"]:
        tree["detector"]["classes"].sort()
    relevant: dict[str, Any] = {
        "version": RESULT_VERSION,
        "limits": [config.listing.max_bytes, config.listing.max_pixels],
        "fill": {key: value for key, value in tree["fill"].items() if key != "windows_per_batch"},
        "autocast": config.scaling.autocast,
        "weights": [item.sha256 if item else None for item in weights],
    } | {section: tree[section] for section in ("detector", "mask", "inpainter", "write", "measure")}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_foreign(job: Job, layout: Layout, manifest: pa.Table, records: pa.Table, outputs: dict[str, int]) -> None:
    """Raise where the run would overwrite what no run of this job wrote.

    Ours is what has a record, and what a run that was killed had listed: it may have written that without a record.
    """
    ours = set(records["key"].to_pylist()) | set(read_manifest_keys(job.target, layout.manifest))
    foreign = [key for key in manifest["key"].to_pylist() if key in outputs and key not in ours]
    if foreign:
        raise ConfigError(
            f"output: {job.target.uri} already holds {len(foreign):,} of these keys (the first is {foreign[0]!r}) that "
            "no run of this job wrote; choose an empty place, or say overwrite=true"
        )


def _without_masks(job: Job, manifest: pa.Table) -> pa.Table:
    """The manifest less the mask files that lie among the images."""
    if not isinstance(job.config.detector, MaskFilesConfig):
        return manifest
    masks = Storage.open(job.config.detector.root, job.config.s3)
    if next(masks.list(), None) is None:
        raise ConfigError(f"detector.root: {masks.uri} holds no files; check the path or prefix")
    keys = manifest["key"].to_pylist()
    if not (masks.contains(job.source) and job.source.contains(masks)):
        below = prefix_inside(job.source, masks, "detector.root")
        return manifest if below is None else manifest.filter(pa.array([not key.startswith(below) for key in keys]))
    from inpaint_core.detectors.mask_files import mask_key_of

    mask_of = {key: mask_key_of(key, job.config.detector.pattern) for key in keys}
    images_of = Counter(mask_of.values())
    own = [key for key in keys if mask_of[key] == key and images_of[key] == 1]
    if own:
        raise ConfigError(
            f"detector.pattern: {job.config.detector.pattern!r} makes {own[0]!r} its own mask, since the masks lie among the "
            "images; choose another pattern, or leave such images out with listing.exclude"
        )
    return manifest.filter(pa.array([key not in images_of for key in keys]))


def _load_weights(config: RemoveConfig) -> tuple[Weights | None, Weights | None]:
    detector, inpainter = config.detector, config.inpainter
    detector_weights = inpainter_weights = None
    if isinstance(detector, Yolov8Config):
        detector_weights = load_weights(
            detector.weights, detector.sha256, config.s3, key="detector.weights", download=_download
        )
    match inpainter:
        case OpencvConfig():
            pass
        case GeneratorConfig() | TorchscriptConfig():
            inpainter_weights = load_weights(inpainter.weights, inpainter.sha256, config.s3, key="inpainter.weights")
    return detector_weights, inpainter_weights


def _download(name: str) -> bytes:
    from inpaint_core.detectors.yolov8_files import (
        download,
    )  # ultralytics takes seconds to import; most jobs name a file

    return download(name)


def _describe(job: Job) -> dict[str, Any]:
    tree = to_tree(job.config)
    return {
        "input": job.source.uri,
        "output": job.target.uri,
        "run_id": job.run.run_id,
        "config_hash": job.run.config_hash,
        "detector_sha256": job.detector_weights.sha256 if job.detector_weights else None,
        "inpainter_sha256": job.inpainter_weights.sha256 if job.inpainter_weights else None,
        "s3": tree["s3"],
        "config": tree,
    }
