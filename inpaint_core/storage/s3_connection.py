"""The connection of one process to S3: session, event loop, sockets. It is made when it is first used."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Mapping
from typing import Any, cast

from fsspec.asyn import sync
from s3fs import S3FileSystem

from inpaint_core.errors import ObjectError, StorageError
from inpaint_core.storage.base import Action, quoted
from inpaint_core.storage.s3_faults import REQUEST_ERRORS, CutAnswer, explain, passing_reason
from inpaint_core.storage.s3_options import S3Options, service_of

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds between attempts, doubling
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
    _pid: int
    _lock: threading.Lock

    def __init__(self, options: S3Options, place: str) -> None:
        self._options = options
        self._place = place
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

        Args:
            action: what is done, for messages.
            key: of which object, for messages; None: of the bucket.
            method: of botocore's client, such as `get_object`.
            parameters: of the method.
            retry_seconds: how long the request is sent again.
            timeout: silence after which a request counts as failed, in seconds; that of the first request holds.

        Raises:
            ObjectError, StorageError: as of `Storage`.
        """
        deadline = time.monotonic() + retry_seconds
        pause = FIRST_PAUSE
        while True:
            try:
                fs = self._connected(timeout)
                return cast("dict[str, Any]", sync(fs.loop, _send, fs, method, parameters))
            except REQUEST_ERRORS as error:
                fault = explain(error, self._place, action, key, self._options)
                if fault is not None:
                    raise fault from error
                if time.monotonic() + pause > deadline:
                    if isinstance(error, CutAnswer) and key is not None:
                        # The store answers: what it cannot give is this object.
                        raise ObjectError(
                            f"{self._place}: the response with {quoted(key)} is truncated, even after "
                            f"{retry_seconds:g} s of retries"
                        ) from error
                    raise StorageError(
                        f"{self._place}: cannot {action}: {passing_reason(error)}, even after {retry_seconds:g} s of "
                        "retries; check the endpoint and the network, then run the job again"
                    ) from error
            time.sleep(pause * random.SystemRandom().uniform(0.5, 1.0))  # no state that a forked process would share
            pause = min(2 * pause, LONGEST_PAUSE)

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
            self._forget()
        with self._lock:
            if self._fs is None:
                self._fs = self._connect(timeout)
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
            skip_instance_cache=True,
            use_listings_cache=False,
            **({} if options.profile is None else {"profile": options.profile}),
        )
        try:
            fs.connect()
        except ValueError as error:  # what botocore raises for an endpoint in AWS_ENDPOINT_URL that is no URL
            raise StorageError(
                f"{self._place}: the endpoint is not valid; check AWS_ENDPOINT_URL and the AWS config"
            ) from error
        return fs

    def _forget(self) -> None:
        self._fs = None
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_fs", "_lock", "_parents")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


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
