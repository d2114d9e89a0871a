"""What a removal job is made of, before and apart from the processes that run it."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from inpaint_core.config import to_tree
from inpaint_core.errors import ConfigError, StorageError, UserError
from inpaint_core.networks.weights.load import Weights, WeightsReference
from inpaint_core.progress import PrintLine
from inpaint_core.removal.catalogue.decisions import decided_images
from inpaint_core.removal.catalogue.entries import RunId
from inpaint_core.removal.catalogue.judge import RecordJudge
from inpaint_core.removal.catalogue.layout import TEMPORARY_FOLDER, Layout
from inpaint_core.removal.catalogue.ledger import (
    PLANNED_BY,
    merge_journal,
    open_records,
    pending_images,
)
from inpaint_core.removal.catalogue.listing import (
    OUTPUTS,
    SCHEMA,
    list_images,
    list_outputs,
    write_manifest,
)
from inpaint_core.removal.catalogue.mask_files import without_masks
from inpaint_core.removal.catalogue.ownership import Owners, settle
from inpaint_core.removal.catalogue.sorted_rows import Cursor, SortedRows
from inpaint_core.removal.catalogue.totals import Totals, totals_of
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import ModelWeights, config_hash
from inpaint_core.removal.rule_check import check_rules, rules_change_outputs, rules_of
from inpaint_core.storage import Storage, open_storage

# Seconds after which a file that a killed process left half written is taken for one; no write takes a day.
_LEFTOVER_AGE = 24 * 3600.0


@dataclass(frozen=True)
class Job:
    """A removal job that is ready to run: stores opened, weights loaded. It travels to every worker.

    `detector_weights` and `inpainter_weights` are None for kinds that have none; `attempt_weights` holds both for each entry of `retry`.
    `earlier_masks`, `earlier_held`: see `OutputWriter`.
    """

    config: RemoveConfig
    source: Storage
    target: Storage
    run: RunId
    detector_weights: Weights | None
    inpainter_weights: Weights | None
    earlier_masks: bool = True
    earlier_held: bool = True
    attempt_weights: tuple[ModelWeights, ...] = ()

    def further_weights(self) -> list[Weights]:
        """Weights that a worker holds for attempts, besides those of the first: each once."""
        first = {weights.sha256 for weights in (self.detector_weights, self.inpainter_weights) if weights}
        found = {weights.sha256: weights for pair in self.attempt_weights for weights in pair if weights}
        return [weights for sha256, weights in found.items() if sha256 not in first]


@dataclass(frozen=True)
class JobPlan:
    """What there is to do.

    `manifest` holds what was listed and `pending` those of its rows that are to be processed (rows of
    `listing.SCHEMA`); `other` counts the objects left out, `done` the images that need nothing, and `failed_before`
    those of them whose record says `failed` (they run again with `retry_failed=true`). `earlier_masks` and `earlier_held` say
    whether the output holds masks, and images that were held back.
    """

    manifest: SortedRows
    pending: SortedRows
    other: int
    done: int
    failed_before: int
    earlier_masks: bool
    earlier_held: bool


def open_job(config: RemoveConfig) -> Job:
    """Open the stores, load the weights, and refuse what could not work.

    Raises:
        ConfigError: input and output overlap, a URI is none, or a rule would hold nothing.
        StorageError: a store cannot be used.
        WeightsError: weights cannot be had, are not the ones meant, or are seen to be of no use without being loaded.
    """
    check_rules(config)
    source = open_storage(config.input, config.s3, temporary_folder=TEMPORARY_FOLDER)
    target = open_storage(config.output, config.output_s3 or config.s3, temporary_folder=TEMPORARY_FOLDER)
    if target.contains(source):
        raise ConfigError(
            f"output: {target.uri} equals or contains the input ({source.uri}): results would overwrite the "
            "originals or mix with them; choose another output"
        )
    source.check_readable()
    weights = model_weights(config)
    further = attempt_weights(config, weights)
    _check_weights(config, weights)
    for index, (settings, own) in enumerate(zip(config.attempts(), further, strict=True)):
        try:
            _check_weights(settings, own)
        except UserError as error:
            raise type(error)(f"retry.{index}: {error}") from error
    run = RunId(
        f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        config_hash(config, *weights, attempts=further),
    )
    return Job(config, source, target, run, *weights, attempt_weights=further)


def plan_job(job: Job, print_line: PrintLine) -> JobPlan:
    """List the input, read what earlier runs did, and say what is left.

    Raises:
        ConfigError: the output holds objects that this job would overwrite and did not write, or masks are images.
        StorageError: nothing to process in the input, or a store cannot be used.
    """
    config, layout = job.config, Layout.of(dry_run=job.config.dry_run)
    job.target.write(layout.probe, b"")  # makes a missing folder, and shows now what would stop the job at its end
    job.target.delete(layout.probe)
    job.target.remove_leftovers(_LEFTOVER_AGE)
    print_line(f"listing {job.source.uri}")
    listing = list_images(job.source, job.target, config.listing, config.limit)
    manifest = without_masks(listing.manifest, config.detector.files_by_key(), job.source, config.s3)
    if masks := len(listing.manifest) - len(manifest):
        listing.left_out.kinds["masks"] = masks
    for line in listing.left_out.lines():
        print_line(line)
    other = listing.left_out.objects
    if not len(manifest):
        raise StorageError(
            f"{job.source.uri} holds no image to process ({other:,} other objects); "
            "check input, listing.extensions, listing.include and listing.exclude"
        )
    # Without outputs, or with all of them written again, what lies there makes no difference.
    compared = not (config.dry_run or config.overwrite)
    outputs = list_outputs(job.target) if compared else SortedRows(OUTPUTS)
    owners = Owners(job.target, layout, job.source.place, adopt=config.adopt)
    if config.overwrite and not config.dry_run:
        owners.claim(manifest)  # before the records go: an output with neither would be taken for somebody else's
    merge_journal(job.target, layout, job.run.run_id, print_line, without=manifest if config.overwrite else None)
    todo = _compare(job, layout, manifest, outputs, owners, other, print_line)
    write_manifest(job.target, layout.manifest, manifest)
    description = json.dumps(_describe(job), indent=2, ensure_ascii=False).encode()
    job.target.write(layout.job, description)
    if len(todo.pending):
        job.target.write(layout.run(job.run.run_id), description)
        if not (config.dry_run or config.overwrite):
            owners.claim(todo.pending)
    return todo


def finish_job(job: Job, todo: JobPlan, print_line: PrintLine) -> Totals:
    """Turn the run's journal into records; returns the counts over all listed images, whichever run made them."""
    layout = Layout.of(dry_run=job.config.dry_run)
    merge_journal(job.target, layout, job.run.run_id, print_line)
    settle(job.target, layout)
    return totals_of(job.target, layout, todo.manifest)


def model_weights(config: RemoveConfig) -> ModelWeights:
    """The weights of the detector and of the inpainter, each None where the kind has none.

    Raises:
        WeightsError: weights cannot be had or are not the ones meant.
        StorageError: the store of a URI cannot be used.
    """
    return _load(config, {}, "")


def attempt_weights(config: RemoveConfig, first: ModelWeights) -> tuple[ModelWeights, ...]:
    """Those of each entry of `retry`. What settings have in common is read once.

    Args:
        config: the settings.
        first: what `model_weights` gave.

    Raises:
        WeightsError, StorageError: see `model_weights`.
    """
    references = config.detector.weights_file(), config.inpainter.weights_file()
    known = {
        (reference.reference, reference.sha256): weights
        for reference, weights in zip(references, first, strict=True)
        if reference and weights
    }
    return tuple(_load(attempt, known, f"retry.{index}.") for index, attempt in enumerate(config.attempts()))


def _check_weights(config: RemoveConfig, weights: ModelWeights) -> None:
    for settings, own in zip((config.detector, config.inpainter), weights, strict=True):
        if own is not None:
            settings.check_weights(own.data)


def _load(config: RemoveConfig, known: dict[tuple[str, str | None], Weights], keys: str) -> ModelWeights:
    """Both weights; those that are known, or become known here, are not read again."""

    def weights_of(reference: WeightsReference | None, section: str) -> Weights | None:
        if reference is None:
            return None
        name = reference.reference, reference.sha256
        if name not in known:
            known[name] = reference.load(config.s3, key=f"{keys}{section}.weights")
        return known[name]

    detector, inpainter = config.detector.weights_file(), config.inpainter.weights_file()
    return weights_of(detector, "detector"), weights_of(inpainter, "inpainter")


def _compare(
    job: Job,
    layout: Layout,
    manifest: SortedRows,
    outputs: SortedRows,
    owners: Owners,
    other: int,
    print_line: PrintLine,
) -> JobPlan:
    """What is pending. All that is compared comes in key order, so that a part of each is enough.

    Records of earlier runs that the rules of this one hold, or hold no longer, get their new status.

    Raises:
        ConfigError: the run would overwrite what is not this job's.
    """
    judged = None
    if not (job.config.dry_run or rules_change_outputs(job.config)):
        judged = RecordJudge(rules_of(job.config), job.run.config_hash)
    columns = PLANNED_BY if judged is None else tuple(dict.fromkeys((*PLANNED_BY, *judged.columns)))
    records = open_records(job.target, layout, columns)
    written = Cursor(outputs, OUTPUTS)
    pending = SortedRows(SCHEMA)
    decided = {} if job.config.dry_run else decided_images(job.target, layout)
    done = failed_before = changes = 0
    for images in manifest:
        known, there = records.matching(images["key"]), written.matching(images["key"])
        changes += 0 if judged is None else judged.changes(known)
        todo = pending_images(
            images,
            known,
            None if job.config.dry_run else dict(zip(there["key"].to_pylist(), there["size"].to_pylist(), strict=True)),
            job.run.config_hash,
            retry_failed=job.config.retry_failed,
            decided=decided,
        )
        pending.add(todo.images)
        done += todo.done
        failed_before += todo.failed_before
        owners.add(known, todo.images["key"], there["key"])
    owners.check()
    if judged is not None and changes:
        print_line(f"rules of accept: earlier records changed (status or broken rules): {changes:,}")
        merge_journal(job.target, layout, job.run.run_id, print_line, changed=judged.judged)
    earlier_masks, earlier_held = (
        next(job.target.list(folder), None) is not None for folder in (layout.masks, layout.held_folder)
    )
    return JobPlan(manifest, pending, other, done, failed_before, earlier_masks, earlier_held)


def _describe(job: Job) -> dict[str, Any]:
    tree = to_tree(job.config)
    return {
        "input": job.source.uri,
        "source": job.source.place,
        "output": job.target.uri,
        "run_id": job.run.run_id,
        "config_hash": job.run.config_hash,
        "detector_sha256": job.detector_weights.sha256 if job.detector_weights else None,
        "inpainter_sha256": job.inpainter_weights.sha256 if job.inpainter_weights else None,
        "s3": tree["s3"],
        "config": tree,
    }
