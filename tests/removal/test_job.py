"""Planning and ending a job without Ray: collections that fit into memory, and the same in parts on the disk."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from inpaint_core.detection.config import MaskFilesConfig, UltralyticsConfig
from inpaint_core.errors import ConfigError, WeightsError
from inpaint_core.inpainting.config import GeneratorConfig, OpencvConfig
from inpaint_core.networks.weights.pretrained import INPAINTER, read_pretrained
from inpaint_core.removal.catalogue import sorted_rows
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.journal import Journal, journal_key
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import config_hash
from inpaint_core.removal.job import Job, JobPlan, finish_job, open_job, plan_job
from inpaint_core.removal.record import Record

KEYS = [f"{folder}/{number:03}.jpg" for folder in "abc" for number in range(40)]
LAYOUT = Layout.of(dry_run=False)


@pytest.fixture(params=["memory", "disk"], autouse=True)
def small_runs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "disk":
        monkeypatch.setattr(sorted_rows, "_SEQUENCE_BYTES", 2_000)
        monkeypatch.setattr(sorted_rows, "_PART_BYTES", 400)


def put(folder: Path, *keys: str) -> None:
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(key.encode())


@pytest.fixture
def config(tmp_path: Path) -> RemoveConfig:
    put(tmp_path / "in", *KEYS)
    put(tmp_path / "masks", "some.png")
    masks = MaskFilesConfig(root=str(tmp_path / "masks"))
    return RemoveConfig(str(tmp_path / "in"), str(tmp_path / "out"), detector=masks, inpainter=OpencvConfig())


def planned(config: RemoveConfig) -> tuple[Job, JobPlan]:
    job = open_job(config)
    return job, plan_job(job, lambda _: None)


def pending(config: RemoveConfig) -> list[str]:
    keys: list[str] = planned(config)[1].pending.read()["key"].to_pylist()
    return keys


def work(job: Job, plan: JobPlan, tmp_path: Path, keys: list[str], **changes: Any) -> None:
    """What the workers of a run leave that copied these images."""
    entries = {row["key"]: row for row in plan.manifest.read().to_pylist()}
    put(tmp_path / "out", *keys)
    for start in range(0, len(keys), 7):
        records = [
            Record(
                key,
                entries[key]["size"],
                entries[key]["etag"],
                job.run.run_id,
                job.run.config_hash,
                datetime.now(UTC),
                "unchanged",
                output_size=len(key),
            )
            for key in keys[start : start + 7]
        ]
        place = journal_key(LAYOUT, job.run.run_id, [record.key for record in records])
        Journal(job.target, place).add([replace(record, **changes) for record in records])


def test_a_run_and_those_after_it(config: RemoveConfig, tmp_path: Path) -> None:
    job, plan = planned(config)
    assert (len(plan.manifest), len(plan.pending), plan.other, plan.done, plan.failed_before) == (120, 120, 0, 0, 0)
    assert pq.read_table(tmp_path / "out" / LAYOUT.manifest)["key"].to_pylist() == KEYS

    work(job, plan, tmp_path, KEYS[5:70])  # and then it was killed
    job, plan = planned(config)
    assert plan.pending.read()["key"].to_pylist() == KEYS[:5] + KEYS[70:]
    assert plan.done == 65
    work(job, plan, tmp_path, KEYS[:5] + KEYS[70:119])
    work(job, plan, tmp_path, KEYS[119:], status="failed", output_size=None)
    assert finish_job(job, plan, lambda _: None).by_status == {"cleaned": 0, "unchanged": 119, "held": 0, "failed": 1}
    assert read_records(job.target)["key"].to_pylist() == KEYS

    (tmp_path / "out" / KEYS[30]).unlink()
    put(tmp_path / "in", "aa/new.jpg")
    assert pending(config) == [KEYS[30], "aa/new.jpg"]
    _, again = planned(replace(config, retry_failed=True))
    assert again.pending.read()["key"].to_pylist() == [KEYS[30], "aa/new.jpg", KEYS[119]]
    assert planned(config)[1].failed_before == 1
    assert len(pending(replace(config, dry_run=True))) == 121
    assert len(pending(replace(config, overwrite=True))) == 121
    assert read_records(job.target).num_rows == 0


def test_the_counts_are_of_the_images_that_are_listed(config: RemoveConfig, tmp_path: Path) -> None:
    job, plan = planned(config)
    work(job, plan, tmp_path, KEYS)
    finish_job(job, plan, lambda _: None)
    job, plan = planned(replace(config, listing=ListingConfig(include="b/*")))
    assert (len(plan.manifest), plan.other, len(plan.pending)) == (40, 80, 0)
    assert finish_job(job, plan, lambda _: None).by_status["unchanged"] == 40
    assert read_records(job.target).num_rows == 120


def test_what_no_run_wrote_is_not_overwritten(config: RemoveConfig, tmp_path: Path) -> None:
    put(tmp_path / "out", "other.txt", KEYS[33], KEYS[90])
    with pytest.raises(
        ConfigError, match=rf"already holds 2 of these keys \(the first is '{KEYS[33]}'\) .*overwrite=true"
    ):
        planned(config)
    assert not (tmp_path / "out" / LAYOUT.manifest).exists()
    assert len(pending(replace(config, overwrite=True))) == 120
    assert len(pending(config)) == 120  # as a run that was killed leaves it: listed, written, and without a record


def test_another_input_does_not_write_over_the_results_of_the_first(config: RemoveConfig, tmp_path: Path) -> None:
    job, plan = planned(config)
    work(job, plan, tmp_path, KEYS)
    finish_job(job, plan, lambda _: None)
    put(tmp_path / "moved", *KEYS, "d/more.jpg")
    for key in KEYS:
        shutil.copystat(tmp_path / "in" / key, tmp_path / "moved" / key)
    moved = replace(config, input=str(tmp_path / "moved"))
    assert pending(moved) == ["d/more.jpg"]  # the same images at another place
    (tmp_path / "moved" / KEYS[7]).write_bytes(b"changed there")
    refused = rf"already holds 1 of these keys \(the first is '{KEYS[7]}'\) that a job over .*/in wrote; .* adopt=true"
    with pytest.raises(ConfigError, match=refused):
        planned(moved)
    assert pending(replace(moved, adopt=True)) == [KEYS[7], "d/more.jpg"]
    assert pending(config) == []
    put(tmp_path / "other", *KEYS[:2], "e/new.jpg")
    other = replace(config, input=str(tmp_path / "other"))
    refusal = rf"already holds 2 of these keys \(the first is '{KEYS[0]}'\) that a job over .*/in wrote;"
    with pytest.raises(ConfigError, match=refusal):
        planned(other)
    # A run over the other keys of that input makes nothing else of them.
    new = replace(other, listing=ListingConfig(include="e/*"))
    job, plan = planned(new)
    work(job, plan, tmp_path, ["e/new.jpg"])
    finish_job(job, plan, lambda _: None)
    with pytest.raises(ConfigError, match=refusal):
        planned(other)
    # Nor does it keep the first from going on, where an image has changed.
    (tmp_path / "in" / KEYS[5]).write_bytes(b"another")
    assert pending(config) == [KEYS[5]]
    assert pending(replace(other, overwrite=True)) == [*KEYS[:2], "e/new.jpg"]


def test_adopting_takes_over_what_a_job_over_another_input_wrote(config: RemoveConfig, tmp_path: Path) -> None:
    job, plan = planned(config)
    work(job, plan, tmp_path, KEYS[:50])
    put(tmp_path / "out", *KEYS[50:60])  # and then it was killed, before it wrote their records
    (tmp_path / "in").rename(tmp_path / "moved")
    moved = replace(config, input=str(tmp_path / "moved"))
    with pytest.raises(ConfigError, match=r"holds 10 of these keys .* that a job over .*/in wrote; .* adopt=true"):
        planned(moved)
    job, plan = planned(replace(moved, adopt=True))
    assert plan.pending.read()["key"].to_pylist() == KEYS[50:]
    put(tmp_path / "out", *KEYS[60:70])  # and then this one was killed
    assert pending(moved) == KEYS[50:]  # its outputs are its own from here on
    work(job, plan, tmp_path, KEYS[50:])
    finish_job(job, plan, lambda _: None)
    assert pending(moved) == []
    assert not (tmp_path / "out" / LAYOUT.claims).exists()


def test_adopting_does_not_take_what_no_job_wrote(config: RemoveConfig, tmp_path: Path) -> None:
    put(tmp_path / "out", KEYS[33])
    with pytest.raises(ConfigError, match=rf"already holds 1 of these keys \(the first is '{KEYS[33]}'\) that no run"):
        planned(replace(config, adopt=True))


def test_adopting_changes_no_config_hash(config: RemoveConfig) -> None:
    assert config_hash(replace(config, adopt=True)) == config_hash(config)


def test_a_killed_run_is_finished_after_others(config: RemoveConfig, tmp_path: Path) -> None:
    a, b = (replace(config, listing=ListingConfig(include=f"{folder}/*")) for folder in "ab")
    job, plan = planned(a)
    work(job, plan, tmp_path, KEYS[:10])
    put(tmp_path / "out", KEYS[10])  # and then it was killed, before it wrote the record
    for _ in range(2):
        job, plan = planned(b)
        work(job, plan, tmp_path, plan.pending.read()["key"].to_pylist())
        finish_job(job, plan, lambda _: None)
    assert (tmp_path / "out" / LAYOUT.claims).exists()
    elsewhere = tmp_path / "elsewhere"
    put(elsewhere, *KEYS[:11])
    with pytest.raises(
        ConfigError, match=r"holds 11 of these keys \(the first is 'a/000\.jpg'\) that a job over .*/in"
    ):
        planned(replace(a, input=str(elsewhere)))
    assert pending(config) == KEYS[10:40] + KEYS[80:]
    job, plan = planned(config)
    work(job, plan, tmp_path, plan.pending.read()["key"].to_pylist())
    finish_job(job, plan, lambda _: None)
    assert not (tmp_path / "out" / LAYOUT.claims).exists()
    assert pending(config) == []


def test_overwriting_a_part_forgets_that_part(config: RemoveConfig, tmp_path: Path) -> None:
    job, plan = planned(config)
    work(job, plan, tmp_path, KEYS)
    finish_job(job, plan, lambda _: None)
    part = replace(config, listing=ListingConfig(include="b/*"))
    assert pending(replace(part, overwrite=True)) == KEYS[40:80]  # and then it was killed
    assert pending(part) == KEYS[40:80]
    assert pending(config) == KEYS[40:80]


def test_masks_among_the_images_are_no_images(config: RemoveConfig, tmp_path: Path) -> None:
    put(tmp_path / "in", *(key.replace(".jpg", "_mask.png") for key in KEYS[::2]), "a/lone.png")
    masks = MaskFilesConfig(root=config.input, pattern="{stem}_mask.png")
    _, plan = planned(replace(config, detector=masks))
    assert plan.manifest.read()["key"].to_pylist() == sorted([*KEYS, "a/lone.png"])
    assert plan.other == 60
    with pytest.raises(ConfigError, match=r"makes 'a/000_mask\.png' its own mask"):
        planned(replace(config, detector=replace(masks, pattern="{stem}.png")))
    put(tmp_path / "in", "m/some.png")
    below = MaskFilesConfig(root=str(tmp_path / "in" / "m"))
    assert "m/some.png" not in pending(replace(config, detector=below))


def test_weights_and_classes_are_looked_at_before_anything_is_listed_or_loaded(
    config: RemoveConfig, tmp_path: Path
) -> None:
    known = UltralyticsConfig(weights="people-vehicles.pt", classes=("person",))
    open_job(replace(config, detector=known))
    with pytest.raises(ConfigError, match=r"^detector\.classes: the network has no class 'persn'. Did you mean person"):
        open_job(replace(config, detector=replace(known, classes=("person", "persn"))))
    (tmp_path / "cut.pt").write_bytes(read_pretrained("people-vehicles.pt")[:-100])
    with pytest.raises(WeightsError, match=r"cut\.pt is not a checkpoint that ultralytics can load"):
        open_job(replace(config, detector=replace(known, weights=str(tmp_path / "cut.pt"))))
    (tmp_path / "cut.safetensors").write_bytes(read_pretrained(INPAINTER)[:-100])
    with pytest.raises(WeightsError, match=r"^The weights are not a complete safetensors file"):
        open_job(replace(config, inpainter=GeneratorConfig(weights=str(tmp_path / "cut.safetensors"))))


def test_the_look_at_weights_loads_no_model_library(config: RemoveConfig) -> None:
    settings = {"input": config.input, "output": config.output, "detector": {"weights": "people-vehicles.pt"}}
    code = f"""
import sys
from inpaint_core.config import validate
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import open_job
open_job(validate(RemoveConfig, {settings!r}))
print([name for name in ("torch", "ultralytics", "cv2", "onnxruntime") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=dict(os.environ))
    assert run.stdout == "[]\n", run.stderr
