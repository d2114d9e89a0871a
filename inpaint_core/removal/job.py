"""What a removal job is made of, before and apart from the processes that run it."""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from inpaint_core.config import to_tree
from inpaint_core.errors import ConfigError, StorageError
from inpaint_core.removal.config import (
    ContextEncoderConfig,
    OpencvConfig,
    RemoveConfig,
    TorchscriptConfig,
    Yolov8Config,
)
from inpaint_core.removal.entries import RunId
from inpaint_core.removal.layout import JOB, Layout, is_reserved
from inpaint_core.removal.ledger import Plan, forget, merge_journal, plan
from inpaint_core.removal.listing import list_images
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


def plan_job(job: Job) -> JobPlan:
    """List the input, read what earlier runs did, and say what is left.

    Raises:
        ConfigError: the output holds objects that this job would overwrite and did not write.
        StorageError: nothing to process in the input, or a store cannot be used.
    """
    config, layout = job.config, Layout.of(dry_run=job.config.dry_run)
    ours = job.target.exists(JOB)
    # Written first: it makes a missing folder, and shows at once where nothing may be written.
    job.target.write(JOB, json.dumps(_describe(job), indent=2, ensure_ascii=False).encode())
    job.target.remove_leftovers(_LEFTOVER_AGE)
    outputs = {info.key: info.size for info in job.target.list() if not is_reserved(info.key)}
    listing = list_images(job.source, job.target, config.listing, config.limit)
    keys = listing.manifest["key"].to_pylist()
    if not keys:
        raise StorageError(
            f"{job.source.uri} holds no image to process ({listing.other:,} other objects); "
            "check input, listing.extensions, listing.include and listing.exclude"
        )
    taken = [] if ours or config.dry_run else [key for key in keys if key in outputs]
    if taken and not config.overwrite:
        job.target.delete(JOB)
        raise ConfigError(
            f"output: {job.target.uri} already holds {len(taken):,} of these keys (the first is {taken[0]!r}) that no job "
            "of this kind wrote; choose an empty place, or say overwrite=true"
        )
    if config.overwrite:
        forget(job.target, layout)
    records = merge_journal(job.target, layout, job.run.run_id)
    todo = plan(
        listing.manifest,
        records,
        None if config.dry_run else outputs,
        job.run.config_hash,
        retry_failed=config.retry_failed,
    )
    return JobPlan(listing.manifest["key"], listing.other, todo)


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
        case ContextEncoderConfig() | TorchscriptConfig():
            inpainter_weights = load_weights(inpainter.weights, inpainter.sha256, config.s3, key="inpainter.weights")
    return detector_weights, inpainter_weights


def _download(name: str) -> bytes:
    from inpaint_core.detectors.yolov8 import download  # ultralytics takes seconds to import; most jobs name a file

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
