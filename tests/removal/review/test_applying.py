"""Decisions carried out on a finished job: what lies where afterwards, records, repetition, interruption, later runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaint_core.errors import ObjectError
from inpaint_core.removal.acceptance import AcceptConfig, Instead
from inpaint_core.removal.catalogue.decisions import Choice, Decided, DecisionLog, Identity, decided_images, latest
from inpaint_core.removal.catalogue.ledger import pending_images, read_records
from inpaint_core.removal.catalogue.listing import list_images, list_outputs
from inpaint_core.removal.output_writer import mask_png
from inpaint_core.removal.report.write import write_report
from inpaint_core.removal.review.applying import Applied, apply_decisions
from inpaint_core.removal.review.command import main
from inpaint_core.removal.review.one_decision import DecisionApplier
from inpaint_core.storage import Storage
from tests.removal.review.finished_job import LAYOUT, FinishedJob, finished_job, plain, request, served, street
from tests.samples import decoded

KEYS = ("a.png", "b/c.jpg", "plain.png", "broken.png")


@pytest.fixture
def job(tmp_path: Path) -> FinishedJob:
    images = (street(0), street(1, format_="JPEG"), plain(2), b"\x89PNG\r\n\x1a\n broken")
    rules = AcceptConfig(instead="original")
    return finished_job(tmp_path, dict(zip(KEYS, images, strict=True)), accept=rules)


def decide(job: FinishedJob, key: str, decision: Choice, mask: str | None = None, by: str = "Anna") -> Decided:
    row = job.records()[key]
    log = DecisionLog(job.output, LAYOUT, by)
    return log.add(key, decision, Identity(row["source_etag"], row["run_id"]), mask)


def apply(job: FinishedJob) -> Applied:
    return apply_decisions(job.output, job.source, job.config, lambda _: None)


def draw(job: FinishedJob) -> str:
    """A mask in the output: columns 10 to 40, rows 20 to 60; its ID."""
    mask = np.zeros((150, 200), np.bool_)
    mask[20:60, 10:40] = True
    job.output.write(LAYOUT.decision_mask("0" * 32), mask_png(mask))
    return "0" * 32


def pending(job: FinishedJob, config_hash: str = "hash1") -> list[str]:
    """What a run of the job would do now."""
    outputs = list_outputs(job.output).read()
    plan = pending_images(
        list_images(job.source, job.output, job.config.listing, None).manifest.read(),
        read_records(job.output),
        dict(zip(outputs["key"].to_pylist(), outputs["size"].to_pylist(), strict=True)),
        config_hash,
        retry_failed=False,
        decided=decided_images(job.output, LAYOUT),
    )
    keys: list[str] = plan.images["key"].to_pylist()
    return keys


def test_restore_puts_the_bytes_of_the_original_under_the_key(job: FinishedJob) -> None:
    before = job.records()["a.png"]
    decided = decide(job, "a.png", "restore")
    assert apply(job).done == {"restore": 1}
    assert job.output.read("a.png") == job.source.read("a.png")
    row = job.records()["a.png"]
    assert (row["status"], row["decision"], row["decided_by"]) == ("unchanged", "restore", "Anna")
    assert row["decided_at"] == decided.decided_at
    assert (row["output_size"], row["seam"], row["objects"]) == (row["source_size"], None, before["objects"])
    assert (row["run_id"], row["config_hash"]) == (before["run_id"], before["config_hash"])


def test_hold_moves_the_result_and_accept_brings_it_back(job: FinishedJob) -> None:
    cleaned = job.output.read("b/c.jpg")
    decide(job, "b/c.jpg", "hold")
    apply(job)
    assert job.output.read("b/c.jpg") == job.source.read("b/c.jpg")
    assert job.output.read("_removal/held/b/c.jpg") == cleaned
    row = job.records()["b/c.jpg"]
    assert (row["status"], row["decision"], row["output_size"]) == ("held", "hold", row["source_size"])
    decide(job, "b/c.jpg", "accept", by="Ben")
    apply(job)
    assert job.output.read("b/c.jpg") == cleaned
    assert not job.output.exists("_removal/held/b/c.jpg")
    row = job.records()["b/c.jpg"]
    assert (row["status"], row["decision"], row["decided_by"], row["output_size"]) == (
        "cleaned",
        "accept",
        "Ben",
        len(cleaned),
    )


def test_the_page_shows_what_is_held(job: FinishedJob) -> None:
    cleaned = job.output.read("a.png")
    decide(job, "a.png", "hold")
    apply(job)
    with served(job.review()) as server:
        (row,) = request(server, "api/records?status=held").json["rows"]
        assert (row["key"], row["decision"], row["decided_by"]) == ("a.png", "hold", "Anna")
        assert request(server, "picture?kind=after&key=a.png").data == cleaned
        assert request(server, "picture?kind=before&key=a.png").data == job.source.read("a.png")
    page = Path(write_report(job.output)).read_text(encoding="utf-8")
    assert "hold: decided by Anna" in page
    assert "<b>1</b>held by reviewers" in page


@pytest.mark.parametrize("instead", ["nothing", "original", "cleaned", "blurred"])
@pytest.mark.parametrize("decision", ["accept", "restore", "hold", "redo"])
def test_decisions_about_images_that_a_rule_holds(tmp_path: Path, instead: Instead, decision: Choice) -> None:
    rules = AcceptConfig(max_mask_fraction=0.0, instead=instead)
    job = finished_job(tmp_path, {"a.png": street(0)}, accept=rules)
    assert job.records()["a.png"]["status"] == "held"
    kept = instead != "cleaned"  # else it is under the key
    assert job.output.exists("_removal/held/a.png") == kept
    cleaned, original = job.output.read("_removal/held/a.png" if kept else "a.png"), job.source.read("a.png")
    blurred = job.output.read("a.png") if instead == "blurred" else None
    decide(job, "a.png", decision, draw(job) if decision == "redo" else None)
    assert apply(job).failed == []
    row, output = job.records()["a.png"], job.output.read("a.png") if job.output.exists("a.png") else None
    assert row["output_size"] == (None if output is None else len(output))
    status, expected = {
        "accept": ("cleaned", cleaned),
        "restore": ("unchanged", original),
        "hold": ("held", {"nothing": None, "original": original, "cleaned": cleaned, "blurred": blurred}[instead]),
        "redo": ("cleaned", output),
    }[decision]
    assert (row["status"], output == expected) == (status, True)
    assert (row["held_for"] is None) == (decision != "hold")
    assert job.output.exists("_removal/held/a.png") == (decision == "restore" or (decision == "hold" and kept))


@pytest.mark.parametrize("format_", ["PNG", "BMP"])  # BMP: the blurred version is as large as the cleaned one
def test_a_blurred_original_is_never_taken_for_the_cleaned_version(tmp_path: Path, format_: str) -> None:
    key = f"a.{format_.lower()}"
    job = finished_job(tmp_path, {key: street(0, format_=format_)})
    cleaned = job.output.read(key)
    job.config = replace(job.config, accept=AcceptConfig(instead="blurred"))
    row = job.records()[key]
    decided = decide(job, key, "hold")
    carry_out = DecisionApplier(job.output, job.source, LAYOUT, job.config)
    for _ in range(2):  # the second time as after an interruption, before the record was written
        held = carry_out(decided, row)
        blurred = job.output.read(key)
        assert blurred not in (cleaned, job.source.read(key))
        assert job.output.read(f"_removal/held/{key}") == cleaned
        assert (held["status"], held["output_size"]) == ("held", len(blurred))
    accepted = decide(job, key, "accept")
    for _ in range(2):
        assert carry_out(accepted, held)["status"] == "cleaned"
        assert job.output.read(key) == cleaned
        assert not job.output.exists(f"_removal/held/{key}")


def test_a_restored_image_can_be_accepted_later(job: FinishedJob) -> None:
    cleaned = job.output.read("a.png")
    decisions: tuple[Choice, ...] = ("restore", "restore", "accept")
    for decision in decisions:
        decide(job, "a.png", decision)
        apply(job)
    assert job.output.read("a.png") == cleaned
    assert job.records()["a.png"]["status"] == "cleaned"
    for decision in decisions:
        decide(job, "plain.png", decision)
        assert apply(job).failed == []
    assert job.output.read("plain.png") == job.source.read("plain.png")


@pytest.mark.parametrize("key", ["a.png", "plain.png"])
def test_redo_fills_the_drawn_mask(job: FinishedJob, key: str) -> None:
    decide(job, key, "redo", draw(job))
    assert apply(job).failed == []
    changed = (decoded(job.output.read(key)) != decoded(job.source.read(key))).any(axis=2)
    assert changed[20:60, 10:40].mean() > 0.9
    assert not changed[:, 41:].any()  # nothing else: the mask of the job counts no longer
    mask = np.asarray(Image.open(Path(job.output.uri, "_removal/masks", f"{key}.png")))
    assert mask.sum() == 30 * 40
    row = job.records()[key]
    assert (row["status"], row["decision"], row["mask_fraction"]) == ("cleaned", "redo", pytest.approx(1200 / 30000))
    assert row["output_size"] == len(job.output.read(key))
    assert row["outside_exact"] is True


def test_what_was_carried_out_is_not_done_again(job: FinishedJob) -> None:
    decide(job, "a.png", "restore")
    decide(job, "b/c.jpg", "hold")
    decide(job, "plain.png", "accept")
    assert apply(job).done.total() == 3
    before = job.records()
    assert apply(job) == Applied()
    assert job.records() == before


def test_the_latest_decision_counts_and_undone_ones_do_not(job: FinishedJob) -> None:
    decide(job, "a.png", "restore")
    decide(job, "a.png", "hold")
    decide(job, "a.png", "accept", by="Ben")
    decide(job, "b/c.jpg", "restore")
    decide(job, "b/c.jpg", "none")
    cleaned = job.output.read("a.png")
    assert apply(job).done == {"accept": 1}
    assert job.output.read("a.png") == cleaned
    assert job.records()["b/c.jpg"]["decision"] is None
    early, late = (
        Decided(name, "k", "hold", None, "x", datetime(2026, 1, day, tzinfo=UTC), "e", "r")
        for name, day in (("z", 1), ("a", 2))
    )
    assert latest([late, early])["k"] is late


def test_a_decision_that_cannot_be_carried_out_waits(job: FinishedJob) -> None:
    decide(job, "broken.png", "accept")
    decide(job, "a.png", "restore")
    decide(job, "b/c.jpg", "redo", "f" * 32)
    applied = apply(job)
    assert applied.done == {"restore": 1}
    assert [key for key, _ in applied.failed] == ["b/c.jpg", "broken.png"]
    assert "no longer exists" in applied.failed[0][1]
    assert job.records()["broken.png"]["status"] == "failed"
    job.source.write("b/c.jpg", job.source.read("b/c.jpg") + b"longer")
    decide(job, "b/c.jpg", "restore")
    assert "the listing said" in apply(job).failed[0][1]
    assert job.records()["b/c.jpg"]["decision"] is None


def test_restore_of_a_failed_image_gives_it_an_output(job: FinishedJob) -> None:
    decide(job, "broken.png", "restore")
    apply(job)
    assert job.output.read("broken.png") == job.source.read("broken.png")
    row = job.records()["broken.png"]
    assert (row["status"], row["stage"], row["error"]) == ("unchanged", None, None)
    assert pending(job) == []


@pytest.mark.parametrize("decision", ["hold", "restore"])
@pytest.mark.parametrize("writes", range(1, 5))
def test_an_interruption_anywhere_is_made_good_by_the_next_attempt(
    job: FinishedJob, monkeypatch: pytest.MonkeyPatch, writes: int, decision: Choice
) -> None:
    """The process ends after some writes to the output: the result is not lost, and the next attempt ends as one would have."""
    cleaned = job.output.read("a.png")
    decide(job, "a.png", decision)
    kind: type[Storage] = type(job.output)
    with monkeypatch.context() as patch:
        left = [writes]

        def counted(method: Callable[..., object]) -> Callable[..., object]:
            def write(storage: Storage, key: str, *arguments: object, **options: object) -> object:
                if "lease" not in key:
                    left[0] -= 1
                    if left[0] < 0:
                        raise KeyboardInterrupt
                return method(storage, key, *arguments, **options)

            return write

        patch.setattr(kind, "write_like", counted(kind.write_like))
        patch.setattr(kind, "open_write", counted(kind.open_write))
        patch.setattr(kind, "delete", counted(kind.delete))
        with suppress(KeyboardInterrupt):
            apply(job)
    assert cleaned in (job.output.read("a.png"), job.output.read("_removal/held/a.png"))
    apply(job)
    assert job.output.read("_removal/held/a.png") == cleaned
    assert job.output.read("a.png") == job.source.read("a.png")
    assert job.records()["a.png"]["decision"] == decision
    assert apply(job) == Applied()


def test_later_runs_leave_what_was_decided(job: FinishedJob) -> None:
    assert pending(job) == []
    assert pending(job, "other hash") == sorted(KEYS)
    decide(job, "a.png", "restore")
    decide(job, "b/c.jpg", "hold")
    assert pending(job, "other hash") == ["broken.png", "plain.png"]  # the others wait to be carried out
    apply(job)
    assert pending(job) == []
    assert pending(job, "other hash") == ["broken.png", "plain.png"]
    os.utime(Path(job.source.uri, "a.png"))
    assert pending(job) == ["a.png"]  # the input has changed
    decide(job, "b/c.jpg", "none")
    apply(job)
    assert pending(job) == ["a.png", "b/c.jpg"]  # taken back: the next run makes its own result


def test_a_decision_is_about_the_result_that_was_seen(job: FinishedJob) -> None:
    decide(job, "a.png", "restore")
    job.run("run2", "hash2", keys={"a.png"})  # with overwrite=true
    assert apply(job) == Applied()
    assert job.records()["a.png"]["status"] == "cleaned"
    assert pending(job, "hash1") == ["a.png"]


def test_command_line(job: FinishedJob, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([job.output.uri, "--apply"]) == 0
    assert capsys.readouterr().out == "decisions carried out: none pending\n"
    decide(job, "a.png", "hold")
    decide(job, "broken.png", "hold")
    assert main([job.output.uri, "--apply"]) == 1
    out, err = capsys.readouterr()
    assert out == "decisions carried out: 1 hold\n"
    assert "'broken.png': there is no cleaned version to hold" in err
    assert main([str(Path(job.output.uri, "nowhere")), "--apply"]) == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert main([job.output.uri, "--port", "99999"]) == 2
    assert "--port" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([job.output.uri, "--name", "a\nb"])


def test_a_decision_that_cannot_be_stored_does_not_count(job: FinishedJob) -> None:
    folder = Path(job.output.uri, "_removal/decisions")
    folder.write_text("a file in the place of the folder")
    with pytest.raises(ObjectError):
        decide(job, "a.png", "restore")
    folder.unlink()
    assert decided_images(job.output, LAYOUT) == {}
