"""The schema of a config: a tree of frozen dataclasses whose fields carry their documentation and bounds as `pydantic.Field`."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import ConfigDict, Field, TypeAdapter

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""What every dataclass of a config is declared with: a key that it does not have is an error, and so is a number that is not finite."""

T = TypeVar("T")

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


_adapters: dict[type, TypeAdapter[Any]] = {}


def adapter_of(schema: type[T]) -> TypeAdapter[T]:
    """What reads and writes configs of a schema. It is made once, which takes 20 to 50 ms of CPU time."""
    if schema not in _adapters:
        _adapters[schema] = TypeAdapter(schema)
    return _adapters[schema]


@cache
def hints_of(dataclass: type) -> Mapping[str, Any]:
    """The type hints of a dataclass's fields by name, with their annotations; read-only, since all callers share them."""
    return types.MappingProxyType(typing.get_type_hints(dataclass, include_extras=True))


def section_of(schema: Any, tree: Any, path: Sequence[str]) -> type | None:
    """The dataclass that holds the keys at `path`; None where there is none.

    Args:
        schema: the type hint of the config, or of a part of it.
        tree: its plain values, by whose `kind` each union is resolved.
        path: names of keys; numbers in lists.
    """
    item = item_of(schema)
    if item is not None and path:
        items = tree if isinstance(tree, list | tuple) else []
        return section_of(
            item, items[int(path[0])] if path[0].isdecimal() and int(path[0]) < len(items) else None, path[1:]
        )
    for candidate in dataclasses_of(schema):
        if isinstance(tree, Mapping) and kind_of(candidate) not in (None, tree.get("kind", kind_of(candidate))):
            continue
        if not path:
            return candidate
        hints = hints_of(candidate)
        if path[0] in hints:
            return section_of(hints[path[0]], tree.get(path[0]) if isinstance(tree, Mapping) else None, path[1:])
    return None


def hint_of(schema: type, tree: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The type of a key, by the kinds of its sections in a normalised tree; None where there is no such key."""
    section = section_of(schema, tree, keys[:-1])
    return hints_of(section).get(keys[-1]) if section else None


def kind_of(schema: type) -> str | None:
    """The value of a dataclass's `kind`; None where it has no such key."""
    hint = members_of(hints_of(schema).get("kind"))[0]
    return get_args(hint)[0] if get_origin(hint) is Literal else None


def dataclasses_of(hint: Any) -> list[type]:
    """The dataclasses that a type hint admits."""
    return [member for member in members_of(hint) if isinstance(member, type) and dataclasses.is_dataclass(member)]


def item_of(hint: Any) -> Any:
    """The type of a list's items, of a hint that admits a list; None of others."""
    return next((get_args(member)[0] for member in members_of(hint) if get_origin(member) is tuple), None)


def takes_text(hint: Any) -> bool:
    """Whether a type hint admits text: a string, or one of several names."""
    return any(member is str or get_origin(member) is Literal for member in members_of(hint))


def admits_none(hint: Any) -> bool:
    """Whether a type hint admits None."""
    return type(None) in members_of(hint)


def members_of(hint: Any) -> list[Any]:
    """The plain types that a type hint admits: the inside of `Annotated`, the members of a union."""
    if get_origin(hint) is Annotated:
        return members_of(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        return [found for member in get_args(hint) for found in members_of(member)]
    return [hint]
