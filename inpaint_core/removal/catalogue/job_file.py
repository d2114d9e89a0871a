"""What a run left in `job.json`: its settings, and where its input is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from inpaint_core.config import validate
from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.storage import S3Options, Storage, open_storage


def read_job(output: Storage, key: str) -> tuple[Mapping[str, Any], list[str]]:
    """The contents of a run's `job.json`, and what is wrong with it."""
    try:
        job = json.loads(output.read(key))
    except (ObjectError, ValueError) as error:
        return {}, [f"{key} cannot be read, so the settings of the job are unknown: {error}"]
    if not isinstance(job, dict):
        return {}, [f"{key} is not the settings file of a removal job, so it is not shown."]
    return job, []


def source_of(job: Mapping[str, Any], notes: list[str]) -> Storage | None:
    """The input that a job file names, with its S3 options; None and a note where it cannot be opened."""
    uri = job.get("input")
    if not isinstance(uri, str):
        notes.append("The input is unknown; give it with --input to show the original images.")
        return None
    try:
        return open_storage(uri, validate(S3Options, job.get("s3") or {}))
    except ConfigError as error:
        notes.append(f"The original images are not shown: {error}")
        return None


def readable(source: Storage | None, notes: list[str]) -> Storage | None:
    """The input; None and a note where it cannot be read."""
    if source is None:
        return None
    try:
        source.check_readable()
    except StorageError as error:
        notes.append(f"The original images are not shown: {error}")
        return None
    return source


def settings_of(job: Mapping[str, Any]) -> RemoveConfig:
    """The settings of a job, from its job file.

    Raises:
        ConfigError: there are none, or they are of another version.
    """
    if not isinstance(job.get("config"), dict):
        raise ConfigError(
            "the settings of the job are not in its _removal/job.json; run the job again with this output"
        )
    return validate(RemoveConfig, job["config"])
