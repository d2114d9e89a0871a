"""Settings of further attempts at images that a rule holds: `retry`, and what the settings of an attempt are then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, TypeVar

from pydantic import Field, with_config

from inpaint_core.config import STRICT, to_tree, validate
from inpaint_core.errors import ConfigError

S = TypeVar("S")

Changes = Mapping[str, Any]


@with_config(STRICT)
@dataclass(frozen=True)
class AttemptConfig:
    """What another attempt at a held image does differently: of each section the keys that change."""

    detector: Annotated[
        Changes,
        Field(description="Keys of `detector`. What such a detector finds is removed besides what was found before."),
    ] = field(default_factory=dict)
    mask: Annotated[Changes, Field(description="Keys of `mask`.")] = field(default_factory=dict)
    inpainter: Annotated[
        Changes, Field(description="Keys of `inpainter`; with another `kind`, the other keys have their defaults.")
    ] = field(default_factory=dict)
    fill: Annotated[Changes, Field(description="Keys of `fill`.")] = field(default_factory=dict)


def with_changes(sections: S, attempt: AttemptConfig, key: str) -> S:
    """The sections of an attempt.

    Args:
        sections: a dataclass whose fields are the sections of `AttemptConfig`, as they are without the attempt.
        attempt: what changes.
        key: of the attempt, for messages.

    Raises:
        ConfigError: a key or value is wrong, nothing changes, or the attempt has another kind of detector.
    """
    tree = to_tree(sections)
    for section in fields(attempt):
        changes = dict(getattr(attempt, section.name))
        before = tree[section.name]
        if section.name == "detector" and changes:
            _check_detector(sections.detector, changes, key)  # type: ignore[attr-defined]
            changes["kind"] = before["kind"]
        another_kind = changes.get("kind", before.get("kind")) != before.get("kind")
        tree[section.name] = changes if another_kind else before | changes
    try:
        changed = validate(type(sections), tree)
    except ConfigError as error:
        raise ConfigError("\n".join(f"{key}.{line}" for line in str(error).splitlines())) from None
    if changed == sections:
        raise ConfigError(f"{key}: it changes no setting, and would give the same result; leave it out")
    return changed


def _check_detector(settings: Any, changes: Changes, key: str) -> None:
    kind = changes.get("kind", settings.kind)
    if kind not in (settings.kind, *settings.former_kinds):
        raise ConfigError(
            f"{key}.detector.kind: an attempt has the kind of detector that the job has ({settings.kind}), not {kind!r}"
        )
    if not settings.looks_at_pixels:
        raise ConfigError(f"{key}.detector: mask files are the same in every attempt; leave the section out")
