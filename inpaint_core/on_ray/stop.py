"""How a `UserError` comes out of a task or an actor of Ray Data, which rewrites messages, and leaves objects."""

from __future__ import annotations

from inpaint_core.errors import UserError


class Stop(Exception):
    """Carries a `UserError` as its first argument."""


def user_error(error: BaseException) -> UserError | None:
    """The `UserError` that a `Stop` carries, out of the layers that Ray wraps around it; None where there is none."""
    seen: set[int] = set()
    queue: list[BaseException | None] = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Stop) and current.args and isinstance(current.args[0], UserError):
            return current.args[0]
        queue += [getattr(current, "cause", None), current.__cause__, current.__context__]
    return None
