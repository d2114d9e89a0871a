"""What the command lines about a job's output share: the arguments that say how its stores are reached."""

from __future__ import annotations

import argparse

from inpaint_core.removal.catalogue.layout import TEMPORARY_FOLDER
from inpaint_core.storage import S3Options, Storage, open_storage


def add_s3_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that `open_stores` reads, besides OUTPUT and `--input`."""
    parser.add_argument("--s3-endpoint", metavar="URL", help="S3 service other than AWS")
    parser.add_argument("--s3-region", metavar="REGION", help="region of the bucket")
    parser.add_argument("--s3-profile", metavar="PROFILE", help="profile of the AWS config files")
    parser.add_argument("--s3-anonymous", action="store_true", help="send no credentials")
    parser.add_argument("--s3-requester-pays", action="store_true", help="accept the costs of the requests")
    parser.add_argument(
        "--s3-encryption",
        choices=["AES256", "aws:kms"],
        help="server-side encryption of what is written [the bucket's]",
    )
    parser.add_argument("--s3-kms-key", metavar="KEY", help="ID, ARN or alias of the KMS key, with aws:kms")


def s3_arguments(options: S3Options) -> list[str]:
    """The arguments of `add_s3_arguments` that give these options, apart from those at their defaults."""
    texts = {
        "--s3-endpoint": options.endpoint,
        "--s3-region": options.region,
        "--s3-profile": options.profile,
        "--s3-encryption": None if options.encryption == "none" else options.encryption,
        "--s3-kms-key": options.kms_key,
    }
    switches = {"--s3-anonymous": options.anonymous, "--s3-requester-pays": options.requester_pays}
    given = [part for name, text in texts.items() if text is not None for part in (name, text)]
    return given + [name for name, on in switches.items() if on]


def s3_options(given: argparse.Namespace) -> S3Options:
    """The options that the arguments of `add_s3_arguments` give."""
    return S3Options(
        given.s3_endpoint,
        given.s3_region,
        given.s3_profile,
        given.s3_anonymous,
        requester_pays=given.s3_requester_pays,
        encryption=given.s3_encryption or "none",
        kms_key=given.s3_kms_key,
    )


def open_stores(given: argparse.Namespace) -> tuple[Storage, Storage | None]:
    """The job's output, and its input where `--input` is given.

    Raises:
        ConfigError: a URI that is none.
    """
    s3 = s3_options(given)
    output = open_storage(given.output, s3, temporary_folder=TEMPORARY_FOLDER)
    source = open_storage(given.input, s3, temporary_folder=TEMPORARY_FOLDER) if given.input is not None else None
    return output, source
