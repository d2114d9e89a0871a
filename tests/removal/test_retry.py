"""Further attempts at images that a rule holds: settings, the choice among results, what they cost, models loaded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray

from inpaint_core.config import load_config, to_yaml, validate
from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.detection.ultralytics import UltralyticsDetector
from inpaint_core.errors import ConfigError, ImageError, Stage, WeightsError
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.networks.weights.load import Weights
from inpaint_core.removal.acceptance import AcceptConfig, parse_rule, severity
from inpaint_core.removal.attempts import AttemptConfig
from inpaint_core.removal.build import build_remover
from inpaint_core.removal.catalogue.entries import RunId
from inpaint_core.removal.catalogue.totals import Retries, totals
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import config_hash
from inpaint_core.removal.job import Job, attempt_weights, model_weights, open_job
from inpaint_core.removal.record import Record, to_table
from inpaint_core.removal.remover import ObjectRemover, remove_objects
from inpaint_core.removal.summary import Summary, summary_lines
from inpaint_core.storage import open_storage
from tests import jobs
from tests.samples import PaintDetector, decoded, encoded, painted, photograph

BOX = (60, 40, 90, 80)
CPU = torch.device("cpu")


def load(*settings: str) -> RemoveConfig:
    return load_config(RemoveConfig, None, ["input=in", "output=out", *settings])


def message(*settings: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(*settings)
    return str(caught.value)


def test_an_attempt_has_the_settings_of_the_job_but_for_its_own() -> None:
    config = load(
        "fill.blend=0.3",
        "inpainter.detail=0.5",
        "retry=[{fill: {context: 3}}, {inpainter: {kind: opencv}, mask: {grow: 0.1}}, {inpainter: {detail: 0}}]",
    )
    first, second, third = config.attempts()
    assert first == replace(config, retry=(), fill=replace(config.fill, context=3.0))
    assert (second.inpainter.kind, second.mask.grow, second.mask.grow_min) == ("opencv", 0.1, config.mask.grow_min)
    assert third.inpainter == replace(config.inpainter, detail=0.0)
    assert validate(RemoveConfig, yaml.safe_load(to_yaml(config))) == config
    assert load("retry={fill: {context: 3}}").attempts() == load("retry=[{fill: {context: 3}}]").attempts()


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        ("[{fill: {contxt: 3}}]", "retry.0.fill.contxt: no such key; did you mean 'context'? valid keys of fill: "),
        ("[{fill: {context: 3}}, {fill: {context: 30}}]", "retry.1.fill.context: input should be less than or equal"),
        (
            "[{write: {names: keep}}]",
            "retry.0.write: no such key; valid keys of retry.0: detector, fill, inpainter, mask",
        ),
        ("[{inpainter: {kind: lamma}}]", "retry.0.inpainter.kind: 'lamma' is not one of 'generator', 'opencv'"),
        ("[{inpainter: {kind: opencv, detail: 1}}]", "retry.0.inpainter.detail: no such key"),
        ("[{fill: {context: 2}}]", "retry.0: it changes no setting, and would give the same result; leave it out"),
        ("[{}]", "retry.0: it changes no setting"),
        ("[{detector: {kind: masks}}]", "retry.0.detector.kind: an attempt has the kind of detector that the job has "),
        ("[3]", "retry.0: input should be a dictionary"),
    ],
)
def test_what_is_wrong_in_an_attempt_is_named_by_its_key(retry: str, expected: str) -> None:
    assert message(f"retry={retry}").startswith(expected)


def test_every_wrong_key_of_every_attempt_is_named() -> None:
    lines = message("retry=[{fill: {contxt: 3, blend: 2}}, {mask: {grow: 0.05}}, {mask: {grow: 3}}]").splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "retry.0.fill.blend",
        "retry.0.fill.contxt",
        "retry.2.mask.grow",
    ]


def test_mask_files_are_the_same_in_every_attempt() -> None:
    assert message("detector.kind=masks", "retry=[{detector: {missing: failed}}]") == (
        "retry.0.detector: mask files are the same in every attempt; leave the section out"
    )


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ["accept.defaults=false", "retry=[{fill: {context: 3}}]"],
            "retry: without a rule of accept no result is held",
        ),
        (
            ["accept.min_likeness=0", "measure.residual_objects=false"],
            "accept: the rule `likeness >= 0` would hold nothing, since likeness is not measured: set measure.residual_objects=true",
        ),
        (
            ["accept.rules=[psnr >= 20]", "measure.shifted_hole=false"],
            "accept: the rule `psnr >= 20` would hold nothing",
        ),
        (
            ["accept.max_residual_objects=0", "detector.kind=masks"],
            "accept: the rule `residual_objects <= 0` would hold ",
        ),
    ],
)
def test_rules_and_attempts_without_effect_are_refused(tmp_path: Path, settings: list[str], expected: str) -> None:
    (tmp_path / "in").mkdir()
    config = load_config(RemoveConfig, None, [f"input={tmp_path}/in", f"output={tmp_path}/out", *settings])
    with pytest.raises(ConfigError) as caught:
        open_job(config)
    assert str(caught.value).startswith(expected)
    assert not (tmp_path / "out").exists()


def test_attempts_count_in_the_hash_only_where_there_are_any() -> None:
    def hash_of(*settings: str) -> str:
        config = load("inpainter.kind=opencv", "detector.kind=masks", *settings)
        return config_hash(config, None, None, attempts=[(None, None)] * len(config.retry))

    first, second = "{fill: {context: 3}}", "{fill: {context: 4}}"
    assert hash_of("retry=[]") == hash_of()
    assert hash_of(f"retry=[{first}]") == hash_of("retry=[{fill: {context: 3.0, windows_per_batch: 4}}]")
    assert len({hash_of(), *(hash_of(f"retry=[{one}]") for one in (first, second, f"{first}, {second}"))}) == 4


def test_the_fewest_then_the_least_broken_rules_are_the_best() -> None:
    rules = [parse_rule("seam <= 2"), parse_rule("psnr >= 20"), parse_rule("residual_objects <= 0")]

    def of(seam: float, psnr: float | None, left: int) -> tuple[int, float]:
        return severity(rules, record(seam=seam, psnr=psnr, residual_objects=left))

    assert of(2, 20, 0) == (0, 0)
    assert of(3, 15, 0) == (2, pytest.approx(0.5 + 0.25))
    assert of(1, None, 2) == (1, pytest.approx(2))
    assert of(9, 20, 0) < of(2.1, 19.9, 0)  # one rule broken by much is better than two by little


def record(**changes: Any) -> Record:
    return replace(Record("a.png", 1, "", "run", "hash", datetime.now(UTC)), **changes)


class Flat:
    """Fills with a grey: of one value, or not at all."""

    window: int | None = None
    central = False

    def __init__(self, value: int | None) -> None:
        self.value = value
        self.calls = 0

    def fill(self, images: Sequence[NDArray[np.uint8]], masks: Sequence[NDArray[np.bool_]]) -> list[NDArray[np.uint8]]:
        self.calls += 1
        if self.value is None:
            raise ImageError(Stage.INPAINT, "the fill is not finite")
        return [np.full_like(image, self.value) for image in images]


def grey(*values: int | None, accept: str = "seam <= 1.5", **changes: Any) -> tuple[ObjectRemover, list[Flat]]:
    """A remover that fills with the first value, and further attempts with the others."""
    config = replace(
        jobs.config("in", "out", Path("masks")),
        accept=AcceptConfig(rules=(accept,)),
        retry=tuple(AttemptConfig(fill={"context": 3 + index}) for index in range(len(values) - 1)),
        **changes,
    )
    models = [Flat(value) for value in values]
    first, *others = (
        ObjectRemover(one, PaintDetector(), Inpainter(model, one.fill))
        for one, model in zip((config, *config.attempts()), models, strict=True)
    )
    first = ObjectRemover(config, first.detector, first.inpainter, others)
    for other in others:
        other.detector = first.detector
    return first, models


def sky() -> bytes:
    """A picture of one grey, 120, with an object: a fill of 120 is right, and the others have a seam by their distance."""
    return encoded(painted(np.full((120, 160, 3), 120, np.uint8), BOX))


def fill_of(output: bytes | None) -> int:
    assert output is not None
    return int(decoded(output)[60, 75, 0])


def test_attempts_stop_at_the_first_that_no_rule_holds() -> None:
    remover, models = grey(10, 60, 120, 90)
    output, row = remove_objects(sky(), remover)
    assert (row.status, row.held_for, fill_of(output)) == ("cleaned", None, 120)
    assert (row.retries, row.retry_kept) == (2, 1)
    assert row.seam == pytest.approx(1)
    assert [model.calls > 0 for model in models] == [True, True, True, False]
    assert row.retry_seconds is not None
    assert 0 < row.retry_seconds < sum(row.seconds.values())
    assert row.output_size == len(output or b"")


def test_of_results_that_a_rule_holds_the_best_is_kept() -> None:
    output, row = remove_objects(sky(), grey(10, 100, 60, 100)[0])
    assert (row.status, row.held_for, fill_of(output)) == ("held", ["seam <= 1.5"], 100)
    assert (row.retries, row.retry_kept) == (3, 0)  # the last is as good, and later
    output, row = remove_objects(sky(), grey(100, 10, 60)[0])
    assert (row.status, fill_of(output), row.retries, row.retry_kept) == ("held", 100, 2, None)


def test_a_result_that_no_rule_holds_is_not_tried_again() -> None:
    remover, models = grey(120, 120)
    _, row = remove_objects(sky(), remover)
    assert (row.status, row.retries, row.retry_kept, row.retry_seconds) == ("cleaned", None, None, None)
    assert models[1].calls == 0


def test_an_attempt_that_fails_counts_and_is_told() -> None:
    output, row = remove_objects(sky(), grey(10, None, 100)[0])
    assert (row.status, fill_of(output), row.retries, row.retry_kept) == ("held", 100, 2, 1)
    assert row.note == "retry.0 failed (the fill is not finite)"
    assert row.error is None


def test_an_attempt_that_removes_less_is_not_taken() -> None:
    config = replace(jobs.config("in", "out", Path("masks")), accept=AcceptConfig(rules=("mask_fraction <= 0.05",)))
    config = replace(
        config, retry=(AttemptConfig(mask={"min_object_pixels": 600}), AttemptConfig(mask={"max_mask_fraction": 0.01}))
    )
    attempts = [jobs.remover_of(one, PaintDetector()) for one in config.attempts()]
    image = painted(photograph(), BOX, (10, 10, 20, 20))
    output, row = remove_objects(encoded(image), jobs.remover_of(config, PaintDetector(), attempts))
    assert (row.status, row.retries, row.retry_kept) == ("held", 2, None)
    assert (row.note or "").startswith(
        "retry.0 leaves out objects that were removed at first; retry.1 filled nothing (mask would cover "
    )
    assert PaintDetector().detect([decoded(output or b"")], ["a"]) == [[]]


def test_an_attempt_that_cannot_be_measured_is_not_taken() -> None:
    config = replace(jobs.config("in", "out", Path("masks")), accept=AcceptConfig(rules=("psnr >= 99",)))
    config = replace(config, retry=(AttemptConfig(fill={"context": 3}),))
    [attempt] = config.attempts()
    attempt = replace(attempt, measure=replace(attempt.measure, shifted_hole=False))
    attempts = [jobs.remover_of(attempt, PaintDetector())]
    _, row = remove_objects(encoded(painted(photograph(), BOX)), jobs.remover_of(config, PaintDetector(), attempts))
    assert (row.status, row.held_for, row.retry_kept, row.note) == ("held", ["psnr >= 99"], None, "retry.0 has no psnr")


def test_no_attempt_begins_after_the_time_of_an_image() -> None:
    scaling = replace(jobs.config("in", "out", Path("masks")).scaling, image_timeout=1e-9)
    output, row = remove_objects(sky(), grey(10, 120, scaling=scaling)[0])
    assert (row.status, fill_of(output), row.retries) == ("held", 10, 0)
    assert row.note == "no time for retry.0 (scaling.image_timeout)"


class Blind(PaintDetector):
    """Finds another box than the painted one."""

    def _find(self, image: NDArray[np.uint8]) -> list[Detection]:
        return [Detection("paint", 0.5, (10.0, 10.0, 30.0, 30.0), np.ones((20, 20), np.bool_), 10, 10)]


def test_what_was_found_at_first_is_removed_in_each_attempt() -> None:
    first, _ = grey(10, 120, detector=UltralyticsConfig(classes=("paint",)))
    [attempt] = first._attempts
    attempt.detector = Blind()
    output, row = remove_objects(sky(), first)
    assert PaintDetector().detect([decoded(output or b"")], ["a"]) == [[]]
    assert sorted(found.box for found in row.objects or []) == [(10.0, 10.0, 30.0, 30.0), tuple(map(float, BOX))]
    assert (row.residual_objects, row.retry_kept) == (0, 0)  # counted by the detector of the job
    assert row.mask_fraction == pytest.approx((20 * 20 + 30 * 40) / (120 * 160), rel=0.5)


def test_a_job_writes_the_best_result_and_counts_the_attempts(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "some.png").touch()
    (tmp_path / "in").mkdir()
    for seed in range(2):
        (tmp_path / "in" / f"{seed}.png").write_bytes(encoded(painted(photograph((160, 120), seed=seed), BOX)))
    plain = jobs.config(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "masks")
    seams = {key: row["seam"] for key, row in jobs.run(plain).items()}
    # A rule that the attempt, whose mask is larger, breaks or keeps; the fill is worse by it or not.
    larger = {key: row["seam"] for key, row in jobs.run(replace(plain, mask=replace(plain.mask, grow_min=12))).items()}
    assert seams != larger
    bound = sum(seams.values()) / 2
    settings = replace(
        plain, accept=AcceptConfig(max_seam=bound), retry=(AttemptConfig(mask={"grow_min": 12}),), overwrite=True
    )
    rows = jobs.run(settings)
    for key, row in rows.items():
        tried = seams[key] > bound
        assert row["retries"] == (1 if tried else None)
        better = tried and larger[key] < seams[key]
        assert row["retry_kept"] == (0 if better else None)
        assert row["seam"] == (larger if better else seams)[key]
        assert row["status"] == ("held" if row["seam"] > bound else "cleaned")
    assert {row["retries"] for row in rows.values()} == {1, None}
    counted = totals(to_table([]))
    assert counted.retries == Retries()


def test_the_summary_tells_what_attempts_cost_and_gave() -> None:
    rows = [
        record(key="a", status="cleaned", retries=1, retry_kept=0, retry_seconds=1.5),
        record(key="b", status="cleaned", retries=2, retry_kept=1, retry_seconds=2.0),
        record(key="c", status="held", held_for=["seam <= 3"], retries=2, retry_kept=0, retry_seconds=2.0),
        record(key="d", status="cleaned", retries=2, retry_kept=1, retry_seconds=2.0, decision="accept"),
        record(key="e", status="cleaned"),
    ]
    counted = totals(to_table(rows[:2])) + totals(to_table(rows[2:]))
    assert counted.retries == Retries(4, 7, 7.5, {0: 1, 1: 1})
    summary = Summary(5, 0, 0, 5, counted, 1.0, 1.0, interrupted=False, records="out/_removal/records")
    assert (
        "4 images broke a rule and were retried: 2 break none now, 1 by retry.0, 1 by retry.1; 7 attempts, 8 s of the workers"
    ) in summary_lines(load(), summary)


def test_a_class_that_the_network_of_an_attempt_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    config = load_config(
        RemoveConfig,
        None,
        [
            f"input={tmp_path}/in",
            f"output={tmp_path}/out",
            "detector.weights=people-vehicles.pt",
            "accept.min_likeness=0",
            "retry=[{detector: {classes: [person, cat]}}]",
        ],
    )
    with pytest.raises(ConfigError, match=r"^retry.0: detector.classes: the network has no class 'cat'"):
        open_job(config)


@pytest.mark.shared
def test_a_network_is_loaded_once_for_all_attempts(shared_dir: Path) -> None:
    config = load(
        f"detector.weights={shared_dir / 'weights' / 'yolov8n-seg.pt'}",
        "accept.min_likeness=-0.2",
        "retry=[{detector: {confidence: 0.1, more_sizes: [320]}}, {inpainter: {detail: 0}}, {fill: {context: 3}}]",
    )
    weights = model_weights(config)
    further = attempt_weights(config, weights)
    assert all(own[0] is weights[0] and own[1] is weights[1] for own in further)
    remover = build_remover(config, *weights, device=CPU, attempts=further)
    one, two, three = remover._attempts
    assert isinstance(remover.detector, UltralyticsDetector)
    assert isinstance(one.detector, UltralyticsDetector)
    assert one.detector is not remover.detector
    assert one.detector._network is remover.detector._network
    assert (one.detector._several_passes, remover.detector._several_passes) == (True, False)
    assert two.detector is three.detector is remover.detector
    models = [each.inpainter._model for each in (remover, one, two, three)]
    assert models[0] is models[1] is models[3] is not models[2]
    assert models[2]._model is models[0]._model  # type: ignore[attr-defined]
    assert build_remover(replace(config, dry_run=True), *weights, device=CPU, attempts=further)._attempts == []


def test_weights_of_an_attempt_are_named_by_its_key() -> None:
    config = load(
        "detector.kind=masks", "inpainter.kind=opencv", "retry=[{inpainter: {kind: torchscript, weights: none.pt}}]"
    )
    with pytest.raises(WeightsError, match=r"^retry\.0\.inpainter\.weights: there is no file none\.pt"):
        attempt_weights(config, (None, None))


def test_a_worker_holds_the_networks_of_attempts_once(tmp_path: Path) -> None:
    first, other, third = (Weights(name, b"", name * 64) for name in "abc")
    place = open_storage(str(tmp_path))
    job = Job(load(), place, place, RunId("run", "hash"), first, other)
    assert job.further_weights() == []
    job = replace(job, attempt_weights=((first, third), (first, other), (first, third), (None, None)))
    assert job.further_weights() == [third]
