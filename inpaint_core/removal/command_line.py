"""Arguments shared by the command lines about a job's output: how its stores are reached."""

from __future__ import annotations

import argparse
from typing import Any

from inpaint_core.removal.catalogue.layout import TEMPORARY_FOLDER
from inpaint_core.storage import S3Options, Storage, open_storage
from inpaint_core.storage.s3_options import DEFAULT_S3

# By the names of `S3Options`; `retry_minutes` is for jobs.
_S3_ARGUMENTS: dict[str, dict[str, Any]] = {
    "endpoint": {"metavar": "URL", "help": "S3 service other than AWS"},
    "region": {"metavar": "REGION", "help": "region of the bucket"},
    "profile": {"metavar": "PROFILE", "help": "profile of the AWS config files"},
    "encryption": {
        "choices": ["none", "AES256", "aws:kms"],
        "help": "server-side encryption of what is written; none: the bucket's [%(default)s]",
    },
    "kms_key": {"metavar": "KEY", "help": "ID, ARN or alias of the KMS key, with aws:kms"},
    "anonymous": {"action": "store_true", "help": "send no credentials"},
    "requester_pays": {"action": "store_true", "help": "accept the costs of the requests"},
}


def add_s3_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `s3_options` reads."""
    for name, keywords in _S3_ARGUMENTS.items():
        parser.add_argument(_flag(name), default=getattr(DEFAULT_S3, name), **keywords)


def s3_arguments(options: S3Options) -> list[str]:
    """The arguments of `add_s3_arguments` that give these options, apart from those at their defaults."""
    given: list[str] = []
    for name in _S3_ARGUMENTS:
        value = getattr(options, name)
        if value != getattr(DEFAULT_S3, name):
            given += [_flag(name)] if value is True else [_flag(name), value]
    return given


def s3_options(given: argparse.Namespace) -> S3Options:
    """The options that the arguments of `add_s3_arguments` give."""
    return S3Options(**{name: getattr(given, f"s3_{name}") for name in _S3_ARGUMENTS})


def _flag(name: str) -> str:
    return f"--s3-{name.replace('_', '-')}"


def open_stores(given: argparse.Namespace) -> tuple[Storage, Storage | None]:
    """The job's output, and its input where `--input` is given.

    Raises:
        ConfigError: a URI that is none.
    """
    s3 = s3_options(given)
    output = open_storage(given.output, s3, temporary_folder=TEMPORARY_FOLDER)
    source = open_storage(given.input, s3, temporary_folder=TEMPORARY_FOLDER) if given.input is not None else None
    return output, source
