"""What an error of an S3 request means for the user: one object, the whole store, or only a moment."""

from __future__ import annotations

import aiohttp
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import Action, MissingObject, quoted
from inpaint_core.storage.outages import NO_ANSWER
from inpaint_core.storage.s3_endpoint import connection_fault, is_certificate_fault
from inpaint_core.storage.s3_options import DEFAULT_S3, S3Options

REQUEST_ERRORS = (boto.BotoCoreError, boto.ClientError, ResponseParserError, aiohttp.ClientError, OSError)
"""Everything that a request can raise."""


class CutAnswer(OSError):
    """An answer began well, and its body broke off or stopped coming."""


_CREDENTIALS_HINT = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile (s3.profile), or set s3.anonymous for a public bucket"

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_STORE_CODES = {
    "NoSuchBucket": "there is no such bucket; check its name and the endpoint",
    "InvalidBucketName": "the bucket's name is not valid; check it",
    "InvalidAccessKeyId": "the store does not know this access key; check AWS_ACCESS_KEY_ID or the profile",
    "SignatureDoesNotMatch": "the secret key does not belong to this access key; check AWS_SECRET_ACCESS_KEY or the profile",
    "ExpiredToken": "the session token has expired; log in again",
    "InvalidToken": "the session token is not valid; check AWS_SESSION_TOKEN or log in again",
    "TokenRefreshRequired": "the session token has expired; log in again",
    "RequestTimeTooSkewed": "this machine's clock is too far from the store's; set it right",
    "AuthorizationHeaderMalformed": "the request was signed for another region; set s3.region to the bucket's",
    "PermanentRedirect": "the bucket is in another region; set s3.region to the bucket's",
    "301": "the bucket is in another region; set s3.region to the bucket's",
    "AccountProblem": "the account has a problem; ask the store's provider",
    "AllAccessDisabled": "all access to the bucket is disabled; ask its owner",
    "NotSignedUp": "the account is not signed up for S3; ask the store's provider",
    "QuotaExceeded": "the bucket's quota is used up; make room",
    "XMinioStorageFull": "the store is full; make room",
}
_OBJECT_CODES = {
    "KeyTooLongError": "its key is too long for this store; rename the object",
    "EntityTooLarge": "it is larger than this store takes",
    "InvalidObjectState": "it is archived; restore it first",
    "PreconditionFailed": "it has changed while it was read",
    "412": "it has changed while it was read",
    "InvalidRange": "it has changed while it was read",
}
DENIED_CODES = frozenset({"AccessDenied", "403"})
"""What the credentials may not do."""

UNKNOWN_CODES = frozenset({"NotImplemented", "MethodNotAllowed", "501", "405"})
"""What the service does not know."""

_MISSING_CODES = frozenset({"NoSuchKey", "404", "NoSuchVersion"})
_PASSING_CODES = frozenset(
    {
        "InternalError",
        "OperationAborted",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequests",
        "ConditionalRequestConflict",
        "XAmzContentSHA256Mismatch",
    }
)
_LASTING_BOTO_ERRORS: tuple[tuple[type[Exception], str], ...] = (
    (boto.ProfileNotFound, "the AWS config files have no such profile; check s3.profile and AWS_PROFILE"),
    (boto.NoCredentialsError, f"no AWS credentials were found; {_CREDENTIALS_HINT}"),
    (boto.PartialCredentialsError, f"the AWS credentials are not complete; {_CREDENTIALS_HINT}"),
    (boto.CredentialRetrievalError, "the AWS credentials could not be fetched; log in again or check the profile"),
    (boto.TokenRetrievalError, "the AWS login has expired; log in again"),
    (boto.SSOError, "the AWS login has expired; log in again"),
    (boto.NoRegionError, "no region is known; set s3.region"),
    (boto.InvalidRegionError, "the region's name is not valid; check s3.region"),
    (boto.ParamValidationError, "the request is not valid; check the bucket's name"),
    (boto.ConfigNotFound, "an AWS config file cannot be found; check AWS_CONFIG_FILE"),
    (boto.ConfigParseError, "an AWS config file cannot be read; check it"),
)
_PASSING_BOTO_ERRORS = (
    boto.HTTPClientError,
    boto.ConnectionError,
    boto.ResponseStreamingError,
    boto.IncompleteReadError,
)


def explain(
    error: Exception,
    where: str,
    action: Action,
    key: str | None,
    options: S3Options = DEFAULT_S3,
) -> ObjectError | StorageError | None:
    """The error that a user gets for a failed request; None for one that may pass: send it again.

    Nothing of the error's own text is repeated, since it may quote the request; the caller chains it.

    Args:
        error: one of `REQUEST_ERRORS`.
        where: the store, as it is named in a sentence.
        action: what was asked.
        key: of which object; None for the store itself.
        options: with which the request was made; the message names others that may help.
    """
    if isinstance(error, boto.ClientError):
        return _explain_answer(error, where, action, key, options)
    for kind, reason in _LASTING_BOTO_ERRORS:
        if isinstance(error, kind):
            return StorageError(f"{where}: {reason}")
    if isinstance(error, boto.SSLError):
        if is_certificate_fault(error):
            return StorageError(
                f"{where}: the endpoint's certificate was refused; check the endpoint, or set AWS_CA_BUNDLE"
            )
        return None
    if isinstance(error, boto.BotoCoreError) and not isinstance(error, _PASSING_BOTO_ERRORS):
        return StorageError(f"{where}: cannot be used ({type(error).__name__}); check the AWS settings")
    return None


def passing_reason(error: Exception) -> str:
    """A few words on an error that `explain` holds for a passing one."""
    if isinstance(error, boto.ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        code = str(error.response.get("Error", {}).get("Code"))
        return f"HTTP {status}" if code == str(status) else f"HTTP {status} {code}"
    if isinstance(error, boto.ConnectTimeoutError | boto.ReadTimeoutError | TimeoutError):
        return NO_ANSWER
    fault = connection_fault(error)
    if fault is not None:
        return fault
    return "no connection" if isinstance(error, boto.EndpointConnectionError) else "the connection broke off"


def code_of(fault: ObjectError | StorageError) -> str | None:
    """The code with which the store refused; None where it did not answer, or not for good."""
    error = fault.__cause__
    if not isinstance(error, boto.ClientError) or explain(error, "", "write", "") is None:
        return None
    return str(error.response.get("Error", {}).get("Code"))


def _hint(error: boto.ClientError, action: Action, options: S3Options) -> str:
    """Which settings or permissions may be missing where access is denied: of them the answer itself often says nothing."""
    hints = []
    if action in ("read", "write") and "kms:" in str(error.response.get("Error", {}).get("Message")):
        needed = "kms:Decrypt" if action == "read" else "kms:GenerateDataKey"
        hints.append(f"the KMS key refuses them: they need {needed}")
        if action == "write":
            hints.append("check s3.kms_key")
    elif action == "write" and options.encryption == "none":
        hints.append("if the bucket demands encryption, set s3.encryption (and s3.kms_key)")
    elif action == "write" and options.encryption == "aws:kms":
        hints.append(
            "for s3.encryption=aws:kms they need kms:GenerateDataKey, and s3.kms_key has to be a key of the bucket's"
        )
    if not options.requester_pays:
        hints.append("if the requester pays for this bucket, set s3.requester_pays=true")
    return f" ({'; '.join(hints)})" if hints else ""


def _explain_answer(
    error: boto.ClientError, where: str, action: Action, key: str | None, options: S3Options
) -> ObjectError | StorageError | None:
    code = str(error.response.get("Error", {}).get("Code"))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    if code in _PASSING_CODES or status == 429 or (status >= 500 and status != 501):
        return None
    if code in _STORE_CODES:
        return StorageError(f"{where}: {_STORE_CODES[code]}")
    if code in DENIED_CODES:
        hint = _hint(error, action, options)
        if action == "read" and key is not None:
            return ObjectError(f"{where}: {quoted(key)} may not be read with these credentials{hint}")
        return StorageError(
            f"{where}: these credentials may not {action} here; use others, or have the permission granted{hint}"
        )
    if code.startswith("KMS.") and action == "write":
        return StorageError(f"{where}: the KMS key cannot be used (the store returned {code}); check s3.kms_key")
    if key is None:
        return StorageError(f"{where}: cannot {action} here: the store returned {code}")
    if code in _MISSING_CODES and action == "read":
        return MissingObject(f"{where}: {quoted(key)} no longer exists")
    reason = _OBJECT_CODES.get(code, f"the store returned {code}")
    return ObjectError(f"{where}: cannot {action} {quoted(key)}: {reason}")
