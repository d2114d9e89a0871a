"""Reading of configs: a YAML file, `key.path=value` overrides on top, one form of error.

A config is validated once, here, and the rest of the code trusts it.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from inpaint_core.config.schema import (
    adapter_of,
    admits_none,
    dataclasses_of,
    hint_of,
    hints_of,
    item_of,
    kind_of,
    section_of,
    takes_text,
)
from inpaint_core.errors import ConfigError

T = TypeVar("T")


def load_config(schema: type[T], file: Path | None, overrides: Sequence[str]) -> T:
    """A validated config from a YAML file and `key.path=value` overrides; later ones win.

    An override is read by its key's type: a text key takes the text as it is, a list key takes a list in YAML's flow
    form (`detector.classes=[person, car]`) or one value (`detector.classes=person`), and `null` is no value where a key
    may have none. Choosing another `kind` than the file's drops the file's other keys of that section, since they
    belong to the other kind.

    Raises:
        ConfigError: the file cannot be read, a key does not exist, or a value is wrong. The message names the key's
            path, what is wrong, and which keys or values there are.
    """
    tree = _read_yaml(file) if file is not None else {}
    settings = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"{override!r} is not of the form key.path=value")
        settings.append((path.strip().split("."), text))
    # Kinds first, wherever they stand: they drop the file's keys, not those of the command line, and the type of a key
    # depends on the kind of its section.
    for keys, text in sorted(settings, key=lambda setting: setting[0][-1] != "kind"):
        if keys[-1] == "kind" and len(keys) > 1:
            # Two names of one kind are no choice of another kind.
            hint = hint_of(schema, _normalised(schema, tree), keys[:-1])
            _rename_kind(hint, tree, keys[:-1])
            text = _present_kind(hint, text)
        _set(tree, keys, text)
        _set(tree, keys, _parse_value(hint_of(schema, _normalised(schema, tree), keys), keys, text))
    return validate(schema, tree)


def validate(schema: type[T], tree: Mapping[str, Any]) -> T:
    """The config that a tree of plain values describes; where a key takes a list, one value is a list of one.

    Raises:
        ConfigError: every wrong key and value, one line each.
    """
    tree = _normalised(schema, tree)
    try:
        return adapter_of(schema).validate_python(tree)
    except ValidationError as error:
        details = error.errors(include_url=False)
        inside = {detail["loc"][:-1] for detail in details}
        # pydantic counts only the items that are right, and so calls a list with wrong ones too short as well.
        told = (detail for detail in details if detail["type"] != "too_short" or detail["loc"] not in inside)
        lines = [_explain(schema, tree, detail) for detail in told]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def tree_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with dotted keys (`{"detector.classes": [...]}`), nested ones, or both, as one tree.

    Raises:
        ConfigError: a key stands both for a value and for a section.
    """
    tree: dict[str, Any] = {}
    # Sections before keys inside them, and of those the kinds, which drop the others.
    for path in sorted(settings, key=lambda path: (path.count("."), path.rpartition(".")[2] != "kind")):
        _set(tree, path.split("."), copy.deepcopy(settings[path]))
    return tree


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"config file {file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {file} is not YAML: {' '.join(str(error).split())}") from error
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"config file {file} holds {type(tree).__name__}, not a map of keys to values")
    return tree


def _parse_value(hint: Any, keys: Sequence[str], text: str) -> Any:
    """The plain value that a command line's text means for a key of this type; None as type: there is no such key."""
    stripped = text.strip()
    if stripped in ("null", "~") and admits_none(hint):
        return None
    item = item_of(hint)
    if item is not None:
        opening: tuple[str, ...] = ("[", "{") if dataclasses_of(item) else ("[",)
    else:
        opening = () if hint is None or takes_text(hint) else ("[", "{", '"', "'")
    if not stripped.startswith(opening):
        return text
    try:
        return yaml.safe_load(stripped)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{'.'.join(keys)}: {text!r} is not a YAML value: {reason}") from error


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for depth, part in enumerate(path[:-1]):
        child = tree.setdefault(part, {})
        if child is None:
            child = tree[part] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{'.'.join(path)}: {'.'.join(path[: depth + 1])} is a value, it has no keys")
        tree = child
    if path[-1] == "kind" and tree.get("kind", value) != value:
        tree.clear()
    tree[path[-1]] = value


def _present_kind(hint: Any, kind: Any) -> Any:
    """The name of a kind of a section, where the name is one of `former_kinds` of its settings; other names as they are."""
    for candidate in dataclasses_of(hint):
        if kind in getattr(candidate, "former_kinds", ()):
            return kind_of(candidate)
    return kind


def _rename_kind(hint: Any, tree: Any, path: Sequence[str]) -> None:
    """Give the section at `path` the present name of its kind, in place, if it is there and names one."""
    for part in path:
        tree = tree.get(part) if isinstance(tree, Mapping) else None
    if isinstance(tree, dict) and "kind" in tree:
        tree["kind"] = _present_kind(hint, tree["kind"])


def _normalised(schema: type, tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree in one form: a `kind` in each section that has kinds (the default one where it names none, and by its present
    name), and a list of one where a key takes a list and has a single value."""
    hints = hints_of(schema)
    normal = dict(tree)
    for field in dataclasses.fields(schema):
        value, hint = normal.get(field.name), hints[field.name]
        item = item_of(hint)
        if item is not None and (isinstance(value, str | int | float) or (value and isinstance(value, Mapping))):
            normal[field.name] = [value]
        elif item is None and isinstance(value, Mapping):
            normal[field.name] = _normalised_section(field, hint, value)
    return normal


def _normalised_section(field: dataclasses.Field[Any], hint: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    if field.default_factory is not dataclasses.MISSING:
        kind = kind_of(type(field.default_factory()))
        section = section if kind is None else {"kind": kind, **section}
    if "kind" in section:
        section = {**section, "kind": _present_kind(hint, section["kind"])}
    for candidate in dataclasses_of(hint):
        if kind_of(candidate) in (None, section.get("kind")):
            return _normalised(candidate, section)
    return dict(section)


def _explain(schema: type, tree: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """One line for one of pydantic's findings, in the words of this project's config."""
    location = _without_tags(tree, detail["loc"])
    path = ".".join(location)
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        section = section_of(schema, tree, location[:-1])
        valid = sorted(field.name for field in dataclasses.fields(section)) if section else []
        close = difflib.get_close_matches(location[-1], valid, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        where = f" of {'.'.join(location[:-1])}" if len(location) > 1 else ""
        return f"{path}: no such key; {hint}valid keys{where}: {', '.join(valid)}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"{path}: required; give it in the config file or as {path}=VALUE"
    if detail["type"] == "union_tag_invalid":
        return f"{path}.kind: {detail['ctx']['tag']!r} is not one of {detail['ctx']['expected_tags']}"
    if detail["type"] == "union_tag_not_found":
        return f"{path}.kind: required; it selects the kind of {location[-1]}"
    message = str(detail["msg"])
    return f"{path}: {message[:1].lower()}{message[1:]}, not {_shown(detail.get('input'))}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _without_tags(tree: Any, loc: Sequence[Any]) -> list[str]:
    """pydantic's location less the tags of unions and of optional dataclasses, which a user never wrote."""
    path: list[str] = []
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(part, int):
            path.append(str(part))
            tree = tree[part] if isinstance(tree, list | tuple) and part < len(tree) else None
        elif isinstance(tree, Mapping) and (part in tree or (last and not path)):
            path.append(part)
            tree = tree.get(part)
        elif isinstance(tree, Mapping) and last:
            path.append(part)
    return path or [str(part) for part in loc]
