"""How a `UserError` comes out of a task or an actor of Ray Data, which rewrites messages, and leaves objects."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TypeVar

from inpaint_core.errors import UserError, causes

T = TypeVar("T")


class CarriedError(Exception):
    """Carries a `UserError` as its first argument."""


def unwrapped(stream: Iterator[T]) -> Iterator[T]:
    """What a stream of Ray Data yields; a `UserError` that a `CarriedError` carries is raised as itself, alone.

    Alone, because what Ray wraps around it refers to the handles of its actors, in frames that refer to each other: their
    CPUs would stay taken for as long as somebody keeps the error, or until the garbage collector comes by, and the next
    stream of this process would wait for them.
    """
    try:
        yield from stream
        return
    except Exception as error:
        carried = _user_error(error)
        if carried is None:
            raise
    gc.collect()
    raise carried


def _user_error(error: BaseException) -> UserError | None:
    """The `UserError` that a `CarriedError` carries, out of the layers that Ray wraps around it; None where there is none."""
    for layer in layers(error):
        if isinstance(layer, CarriedError) and layer.args and isinstance(layer.args[0], UserError):
            return layer.args[0]
    return None


def layers(error: BaseException) -> Iterator[BaseException]:
    """An error and all that it comes from, each once, the nearest first; Ray's own link is the attribute `cause`."""
    return causes(error, lambda layer: (getattr(layer, "cause", None), layer.__cause__, layer.__context__))
