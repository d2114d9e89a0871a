"""How S3 is reached: the settings, what they may be together, and which of them mean the same service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, with_config

from inpaint_core.config import STRICT
from inpaint_core.errors import ConfigError


@with_config(STRICT)
@dataclass(frozen=True)
class S3Options:
    """Access to `s3://` URIs. Credentials are not part of it: they come from AWS's default credential chain."""

    endpoint: Annotated[
        str | None,
        Field(description="URL of an S3 service other than AWS, such as `http://127.0.0.1:8333`; null: AWS."),
    ] = None
    region: Annotated[
        str | None, Field(description="Region of the bucket; null: from the AWS configuration of the machine.")
    ] = None
    profile: Annotated[
        str | None,
        Field(
            description="Profile of the AWS configuration files that supplies the credentials; null: AWS's default credential chain."
        ),
    ] = None
    anonymous: Annotated[bool, Field(description="Anonymous access: no credentials are sent (public buckets).")] = False
    requester_pays: Annotated[
        bool,
        Field(description="Requester pays: every request accepts that its costs are charged to these credentials."),
    ] = False
    encryption: Annotated[
        Literal["none", "AES256", "aws:kms"],
        Field(
            description="Server-side encryption that is requested for every object written: `AES256` (SSE-S3) or `aws:kms` (SSE-KMS). `none`: the default of the bucket."
        ),
    ] = "none"
    kms_key: Annotated[
        str | None,
        Field(
            description="ID, ARN or alias of the KMS key, with `encryption: aws:kms`; null: the service's own key for S3."
        ),
    ] = None
    retry_minutes: Annotated[
        float,
        Field(
            gt=0,
            le=7 * 24 * 60,
            allow_inf_nan=False,
            description="Minutes of an outage (no answer, 5xx, throttling) after which the command gives up; also for local folders on an unreachable network mount. An endpoint that has never answered gets seconds only.",
        ),
    ] = 10.0


DEFAULT_S3 = S3Options()


def check_options(options: S3Options) -> None:
    """Refuse what no request could be made with.

    Raises:
        ConfigError: an endpoint that is no URL, or settings that contradict each other.
    """
    if options.endpoint is not None:
        _check_endpoint(options.endpoint)
    if options.kms_key is not None and options.encryption != "aws:kms":
        raise ConfigError(
            f"s3.kms_key is set, but s3.encryption is {options.encryption}: set s3.encryption=aws:kms, or remove the key."
        )
    if options.requester_pays and options.anonymous:
        raise ConfigError("s3.requester_pays needs credentials to charge: set s3.anonymous=false.")


def service_of(endpoint: str) -> str:
    """What two endpoints have in common when the same bucket name means the same bucket."""
    parts = urlsplit(endpoint)
    host = (parts.hostname or "").lower()
    if host.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return "aws"
    if host in ("localhost", "::1") or host.startswith("127."):
        host = "localhost"
    return f"{host}:{parts.port or (443 if parts.scheme == 'https' else 80)}{parts.path.rstrip('/')}"


def _check_endpoint(endpoint: str) -> None:
    try:
        parts = urlsplit(endpoint)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid, parts = False, urlsplit("")
    if "@" in endpoint:
        raise ConfigError("s3.endpoint contains a user name or password (the part before '@'): remove it.")
    if not valid or parts.query or parts.fragment:
        raise ConfigError(f"s3.endpoint is {endpoint!r}: give a URL such as http://127.0.0.1:8333.")
