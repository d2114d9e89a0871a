"""The connection of one process to S3: session, event loop, sockets. It is made when it is first used."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import Loader, create_loader
from fsspec.asyn import sync
from s3fs import S3FileSystem

from inpaint_core.errors import ConfigError, ObjectError, StorageError
from inpaint_core.storage.base import Action, UnansweredRequest, quoted
from inpaint_core.storage.outages import Outages, Retries, Verdict, duration
from inpaint_core.storage.s3_endpoint import has_user, tls_mismatch
from inpaint_core.storage.s3_faults import REQUEST_ERRORS, CutAnswer, explain, passing_reason
from inpaint_core.storage.s3_options import S3Options, service_of

CONNECT_TIMEOUT = 5.0
MAX_CONNECTIONS = 64  # of one process; more threads than that wait for one another


class S3Connection:
    """Sends requests to S3; may be used from many threads, pickled, and used in a forked or spawned process.

    s3fs keeps the session and the event loop; requests are made with bucket and key as they are. Its path functions would
    change keys: they cut `?versionId=`, leading and trailing slashes, and take `*` and `[` for patterns.

    Args:
        options: how S3 is reached.
        place: of what, for messages.
    """

    _fs: S3FileSystem | None
    _parents: S3FileSystem | None
    _timeout: float
    _pid: int
    _lock: threading.Lock
    _read_before: Mapping[str, Any] | None

    def __init__(self, options: S3Options, place: str) -> None:
        self._options = options
        self._place = place
        self.outages = Outages(place, 60 * options.retry_minutes)
        self._forget()

    def request(
        self,
        action: Action,
        key: str | None,
        method: str,
        parameters: Mapping[str, Any],
        *,
        retry_seconds: float,
        timeout: float,
    ) -> dict[str, Any]:
        """One request, sent again while it fails for a passing reason. A body in the answer is read to bytes.

        A store that has never answered is given up after seconds, and so is an object where others are answered; see
        `Retries`.

        Args:
            action: what is done, for messages.
            key: of which object, for messages; None: of the bucket.
            method: of botocore's client, such as `get_object`.
            parameters: of the method.
            retry_seconds: how long the request is sent again.
            timeout: silence after which a request counts as failed, in seconds.

        Raises:
            ObjectError, StorageError: as of `Storage`.
        """
        with self.outages.retries(method, retry_seconds) as retries:
            while True:
                try:
                    answer = self._attempt(method, parameters, timeout, retries.limit)
                except REQUEST_ERRORS as error:
                    fault = explain(error, self._place, action, key, self._options)
                    if fault is not None:
                        fault = self._mismatch(error) or fault
                        if isinstance(error, ClientError):
                            self.outages.answered(method)
                        raise fault from error
                    cut = isinstance(error, CutAnswer)
                    verdict = retries.failed(passing_reason(error), silence=timeout, of_object=cut)
                    if verdict is not Verdict.AGAIN:
                        raise self._mismatch(error) or self._given_up(
                            error, verdict, action, key, parameters, retries, timeout
                        ) from error
                else:
                    self.outages.answered(method)
                    if method == "get_object":
                        self._read_before = parameters
                    return answer
                if method == "get_object" and retries.lasts:
                    self._read_something_else(parameters, timeout)
                retries.wait()

    def _attempt(
        self, method: str, parameters: Mapping[str, Any], timeout: float, limit: float | None = None
    ) -> dict[str, Any]:
        fs = self._connected(timeout)
        return cast("dict[str, Any]", sync(fs.loop, _send, fs, method, parameters, timeout=limit))

    def _mismatch(self, error: Exception) -> StorageError | None:
        """What is wrong with the scheme of an endpoint that has never answered."""
        if self.outages.has_answered or self._fs is None:
            return None
        mismatch = tls_mismatch(str(self._fs.s3.meta.endpoint_url), error)
        return None if mismatch is None else StorageError(f"{self._place}: {mismatch}")

    def _given_up(
        self,
        error: Exception,
        verdict: Verdict,
        action: Action,
        key: str | None,
        parameters: Mapping[str, Any],
        retries: Retries,
        timeout: float,
    ) -> ObjectError | StorageError:
        if key is not None and isinstance(error, CutAnswer) and not retries.others_fail:
            return ObjectError(
                f"{self._place}: the response with {quoted(key)} is truncated, even after {retries.waited} of retries"
            )
        if key is not None and (
            verdict is Verdict.OBJECT
            or (self.outages.has_answered and not retries.others_fail and self._lists(parameters, timeout))
        ):
            return UnansweredRequest(
                f"{self._place}: cannot {action} {quoted(key)}: {retries.reason}, even after {retries.waited} of "
                "retries, while the store answers other requests"
            )
        return StorageError(
            f"{self._place}: cannot {action}: {retries.reason}, even after {duration(retries.patience)} of retries; "
            "check the endpoint and the network, then run the job again"
        )

    def _lists(self, parameters: Mapping[str, Any], timeout: float) -> bool:
        """Whether the store answers at all."""
        try:
            self._attempt("list_objects_v2", {"Bucket": parameters["Bucket"], "MaxKeys": 1}, timeout)
        except REQUEST_ERRORS as error:
            return isinstance(error, ClientError) and explain(error, self._place, "list", None) is not None
        return True

    def _read_something_else(self, parameters: Mapping[str, Any], timeout: float) -> None:
        """Read a byte of the object that was read last: whether it comes tells a fault of one object from an outage."""
        other = self._read_before
        if other is None or other["Key"] == parameters["Key"]:
            return
        try:
            self._attempt("get_object", {**other, "Range": "bytes=0-0"}, timeout)
        except REQUEST_ERRORS as error:
            if not isinstance(error, ClientError) or explain(error, self._place, "read", "") is None:
                self.outages.probe_failed("get_object")
                return
        self.outages.answered("get_object")

    def service(self, timeout: float) -> str:
        """What this connection has in common with others for which the same bucket name means the same bucket.

        Raises:
            StorageError: no connection can be made with these settings.
        """
        if self._options.endpoint is not None:  # else from AWS's own settings
            return service_of(self._options.endpoint)
        try:
            return service_of(str(self._connected(timeout).s3.meta.endpoint_url))
        except REQUEST_ERRORS as error:
            raise explain(error, self._place, "read", None) or StorageError(f"{self._place}: cannot be used") from error

    def _connected(self, timeout: float) -> S3FileSystem:
        if self._pid != os.getpid():
            # Forked: the lock may be held for ever, and the event loop has no thread here. The old file system is kept
            # from being closed: its sockets are the parent's.
            self._parents = self._fs
            self.outages = self.outages.after_fork()
            self._forget()
        with self._lock:
            if self._fs is None or self._timeout != timeout:
                self._fs, self._timeout = self._connect(timeout), timeout
            return self._fs

    def _connect(self, timeout: float) -> S3FileSystem:
        options = self._options
        config: dict[str, Any] = {
            "connect_timeout": min(CONNECT_TIMEOUT, timeout),
            "read_timeout": timeout,
            "max_pool_connections": MAX_CONNECTIONS,
            "retries": {"total_max_attempts": 1},  # whoever sends does it, with a limit in seconds
        }
        if options.endpoint is not None:
            # Many other services do not know the checksums that AWS's clients add on their own.
            config |= {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
        fs = S3FileSystem(
            anon=options.anonymous,
            endpoint_url=options.endpoint,
            client_kwargs={} if options.region is None else {"region_name": options.region},
            config_kwargs=config,
            session=_session(options.profile),
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        try:
            fs.connect()
        except ValueError as error:  # what botocore raises for an endpoint in AWS_ENDPOINT_URL that is no URL
            raise StorageError(
                f"{self._place}: the endpoint is not valid; check AWS_ENDPOINT_URL and the AWS config"
            ) from error
        endpoint = str(fs.s3.meta.endpoint_url)
        if has_user(endpoint):
            raise ConfigError(
                f"{self._place}: the endpoint in AWS_ENDPOINT_URL, or in the AWS config, contains a user name or password (the "
                "part before '@'): remove it; credentials come from AWS_ACCESS_KEY_ID and the like"
            )
        return fs

    def _forget(self) -> None:
        self._fs = None
        self._timeout = 0.0
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._read_before = None

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in vars(self).items()
            if name not in ("_fs", "_lock", "_parents", "_read_before")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def _session(profile: str | None) -> AioSession:
    """A session with credentials and settings of its own, and the descriptions of AWS's services that all sessions share."""
    session = AioSession(profile=profile)
    with contextlib.suppress(BotoCoreError):  # of the AWS config, and told when it connects
        session.register_component("data_loader", _service_descriptions(session.get_config_variable("data_path")))
    return session


@lru_cache
def _service_descriptions(folders: str | None) -> Loader:
    """Reads them once: 50 ms of CPU a connection."""
    return create_loader(folders)


async def _send(fs: S3FileSystem, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    client = await fs.set_session()
    answer: dict[str, Any] = await getattr(client, method)(**parameters)
    if "Body" in answer:
        async with answer["Body"] as body:
            try:
                answer["Body"] = await body.read()
            except REQUEST_ERRORS as error:
                raise CutAnswer("the answer broke off") from error
    return answer
