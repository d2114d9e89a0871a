"""Removal jobs from their plan to their end, in this process: what they write, do again, and leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.config import ListingConfig
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.summary import summary_lines
from inpaint_core.storage import open_storage
from tests import jobs


@pytest.fixture
def collection(tmp_path: Path) -> dict[str, bytes]:
    return jobs.collection(tmp_path / "in")


@pytest.fixture
def settings(tmp_path: Path, collection: dict[str, bytes]) -> RemoveConfig:
    return jobs.config(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path)


def keys(settings: RemoveConfig, *, dry_run: bool = False) -> list[str]:
    found: list[str] = read_records(open_storage(settings.output), dry_run=dry_run)["key"].to_pylist()
    assert found == sorted(set(found))
    return found


def test_failures_are_done_again_when_asked_for_and_everything_with_overwrite(
    settings: RemoveConfig, collection: dict[str, bytes], tmp_path: Path
) -> None:
    assert jobs.summary(settings).totals.by_status["failed"] == 2
    (tmp_path / "in" / "b" / "empty.png").write_bytes(collection["a/photo 00.png"])
    retried = jobs.summary(replace(settings, retry_failed=True))
    assert retried.processed == 2
    assert retried.totals.by_status["failed"] == 1
    assert jobs.summary(replace(settings, overwrite=True)).processed == 30


def test_a_dry_run_writes_masks_and_records_only(settings: RemoveConfig, tmp_path: Path) -> None:
    dry = replace(settings, dry_run=True, limit=6)
    summary = jobs.summary(dry)
    assert summary.totals.by_status["cleaned"] == 3
    assert "3 would be cleaned" in summary_lines(dry, summary)[0]
    written = {
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()
    }
    assert {name.split("/")[0] for name in written} == {"_removal"}
    assert len([name for name in written if name.startswith("_removal/dry_run/overlays/")]) == 3
    assert len(keys(settings, dry_run=True)) == 6
    assert keys(settings) == []
    assert jobs.summary(replace(settings, limit=6)).processed == 6


def test_files_that_no_job_wrote_are_not_overwritten(settings: RemoveConfig, tmp_path: Path) -> None:
    mine = tmp_path / "out" / "a" / "broken.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(ConfigError, match=r"already holds 1 of these keys .*broken\.jpg.*overwrite=true"):
        jobs.run(settings)
    jobs.run(replace(settings, dry_run=True))
    jobs.run(replace(settings, listing=ListingConfig(include="b/*"), limit=1))
    with pytest.raises(ConfigError, match="already holds"):
        jobs.run(settings)
    assert mine.read_bytes() == b"mine"
    assert jobs.summary(replace(settings, overwrite=True, limit=1)).processed == 1
    assert mine.read_bytes() == b"mine"  # asked for was to overwrite, but the image failed: it has no successor


def test_an_output_inside_the_input_is_not_taken_for_input(settings: RemoveConfig, tmp_path: Path) -> None:
    inside = replace(settings, output=str(tmp_path / "in" / "clean"))
    assert jobs.summary(replace(inside, limit=4)).processed == 4
    assert jobs.summary(inside).listed == 30
