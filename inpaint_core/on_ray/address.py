"""Which Ray a job joins, and whether it answers: checked before `ray.init`, which tries for minutes to reach a server that is not Ray."""

from __future__ import annotations

import logging
import os
import socket
import time

import grpc
from ray._private import services
from ray._private.authentication.authentication_token_setup import maybe_enable_token_auth_if_token_available
from ray._private.grpc_utils import init_grpc_channel
from ray._private.utils import read_ray_address
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
from ray.exceptions import AuthenticationError

from inpaint_core.errors import ClusterError

_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_ANSWER = 20.0
_SECONDS_FOR_A_NODE = 10.0
# What comes of a server that is not Ray: no gRPC, or none of Ray's services.
_NOT_RAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED)
_HEALTH = "/grpc.health.v1.Health/Check"  # https://github.com/grpc/grpc/blob/master/doc/health-checking.md
_TOKEN = "set RAY_AUTH_MODE=token, and the cluster's token in RAY_AUTH_TOKEN or ~/.ray/auth_token"


def cluster_address() -> str | None:
    """The address of the cluster that `RAY_ADDRESS` or a local `ray start` names, as `host:port`.

    Returns:
        None: there is none to join, and the job starts Ray on this machine.

    Raises:
        ClusterError: what is named does not answer, is not Ray, refuses this job, or has no node on this machine.
    """
    given = os.environ.get("RAY_ADDRESS") or None
    if given == "local":
        return None
    if given is None or given == "auto":
        # As in `connect`, or Ray would warn on standard error in each run of a user who has a token.
        logging.getLogger("ray").setLevel(logging.ERROR)
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)  # as `ray.init` does, and only there
    if given is None:
        # Where `ray start` left word, which outlives a cluster that was killed; another server may have its port.
        recorded = read_ray_address()
        if recorded is None or not _listens(recorded) or not _is_ray(recorded, f"the Ray cluster at {recorded}"):
            return None
        address = recorded
    else:
        address = _resolved(given)
        name = given if given == address else f"{given} (which Ray takes for {address})"
        if not _listens(address):
            raise ClusterError(f"RAY_ADDRESS: no Ray cluster answers at {name}; start it, or unset RAY_ADDRESS")
        if not _is_ray(address, f"RAY_ADDRESS: the Ray cluster at {given}"):
            raise ClusterError(
                f"RAY_ADDRESS: what answers at {name} is not Ray; give the host and port of `ray start` (port 6379 by "
                "default, not that of the dashboard), or unset RAY_ADDRESS"
            )
    _check_node_here(address)
    return address


def listens(host: str, port: int, seconds: float) -> bool:
    """Whether something takes connections there within some seconds."""
    try:
        socket.create_connection((host, port), timeout=seconds).close()
    except OSError:
        return False
    return True


def answers(address: str, seconds: float) -> bool:
    """Whether a process of Ray answers within some seconds, by the health check of gRPC, as a GCS checks its nodes.

    Whatever it answers, it runs. One that is stopped or hangs accepts connections, but does not answer.

    Args:
        address: of its gRPC server, `host:port`.
        seconds: for the connection and the answer.
    """
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    channel = init_grpc_channel(address, options=options)
    try:
        # The request has no content; protobuf's classes for this service are in a package of their own.
        check = channel.unary_unary(_HEALTH, request_serializer=bytes, response_deserializer=bytes)
        check(b"", timeout=seconds)
    except grpc.RpcError as error:
        return error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
    finally:
        channel.close()
    return True


def host_and_port(address: str) -> tuple[str, int] | None:
    """The parts of `host:port`; None where it is nothing of this form."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 2**16:
        return None
    return host.strip("[]"), int(port)


def _resolved(given: str) -> str:
    """`host:port` as Ray uses it, which replaces localhost by the address that other machines reach this one at."""
    if "://" in given:
        raise ClusterError(
            f"RAY_ADDRESS: {given} is not the address of a cluster for a job that runs on it; submit the job "
            "(`ray job submit -- python jobs/...`), or start it on a machine of the cluster with RAY_ADDRESS=HOST:PORT, as "
            "`ray start` has printed it (port 6379 by default)"
        )
    if given != "auto" and host_and_port(given) is None:
        raise ClusterError(f"RAY_ADDRESS: {given!r} is no address; give HOST:PORT, `auto` or `local`, or unset it")
    try:
        address = services.canonicalize_bootstrap_address(given)
    except Exception as error:  # ConnectionError, ValueError, and what a name server makes of it
        raise ClusterError(
            f"RAY_ADDRESS: no Ray cluster is found for {given!r} ({first_line(error)}); start it, or unset RAY_ADDRESS"
        ) from error
    assert address is not None
    return address


def _listens(address: str) -> bool:
    there = host_and_port(address)
    return there is not None and listens(*there, _SECONDS_TO_CONNECT)


def _is_ray(address: str, name: str) -> bool:
    """Check whether the cluster runs.

    Args:
        address: of its GCS.
        name: what messages call it.

    Raises:
        ClusterError: it does not answer, or not to this job.
    """
    # As Ray's own connections: without the proxy that the environment may name for others.
    channel = init_grpc_channel(address, options=[("grpc.enable_http_proxy", 0)])
    try:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)  # type: ignore[no-untyped-call]
        stub.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=_SECONDS_TO_ANSWER)  # type: ignore[attr-defined]
    except AuthenticationError as error:
        raise ClusterError(f"{name} requires a token (RAY_AUTH_MODE=token), but none is set; {_TOKEN}") from error
    except grpc.RpcError as error:
        code = error.code()
        if code in _NOT_RAY:
            return False
        if code == grpc.StatusCode.UNAUTHENTICATED:
            raise ClusterError(f"{name} rejected this job's token, or received none; {_TOKEN}") from error
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            reason = (
                f"takes connections, but does not answer within {_SECONDS_TO_ANSWER:g} s; is it Ray, and does it run?"
            )
        else:
            reason = f"answers {code.name}: {error.details()}"
        raise ClusterError(
            f"{name} {reason} Restart it, or set RAY_ADDRESS=local for a Ray of this job's own"
        ) from error
    finally:
        channel.close()
    return True


def _check_node_here(address: str) -> None:
    """Refuse a machine that is not part of the cluster, for whose node `ray.init` would wait a minute."""
    deadline = time.monotonic() + _SECONDS_FOR_A_NODE
    while not services.find_node_ids():  # type: ignore[no-untyped-call]
        if time.monotonic() > deadline:
            raise ClusterError(
                f"Ray: no node of the cluster at {address} runs on this machine; submit the job (`ray job submit -- python "
                f"jobs/...`), or start a node here (ray start --address={address})"
            )
        time.sleep(0.5)


def first_line(error: BaseException) -> str:
    """The message of an error, in one line; its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[0].rstrip(".")
