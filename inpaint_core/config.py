"""Typed configs of the jobs: a YAML file, `key.path=value` overrides on top, one form of error.

A config is a tree of frozen dataclasses whose fields carry their documentation and bounds as `pydantic.Field`;
it is validated once, here, and the rest of the code trusts it.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from inpaint_core.errors import ConfigError

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""What every dataclass of a config is declared with: a key that it does not have is an error, and so is a number that is not finite."""

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class Key:
    """One documented key of a config: its path (`detector.classes`), default as YAML, and what it means."""

    path: str
    default: str
    doc: str


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
            hint = _hint(schema, _normalised(schema, tree), keys[:-1])
            _rename_kind(hint, tree, keys[:-1])
            text = _present_kind(hint, text)
        _set(tree, keys, text)
        _set(tree, keys, _parse_value(_hint(schema, _normalised(schema, tree), keys), keys, text))
    return validate(schema, tree)


def validate(schema: type[T], tree: Mapping[str, Any]) -> T:
    """The config that a tree of plain values describes; where a key takes a list, one value is a list of one.

    Raises:
        ConfigError: every wrong key and value, one line each.
    """
    tree = _normalised(schema, tree)
    try:
        return TypeAdapter(schema).validate_python(tree)
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


def to_tree(config: Any) -> dict[str, Any]:
    """The config as plain YAML values (dicts, lists, numbers, strings, None)."""
    tree = TypeAdapter(type(config)).dump_python(config, mode="json")
    return dict(tree)


def to_earlier_tree(config: Any, later: Collection[str]) -> dict[str, Any]:
    """As `to_tree`, but without the keys of `later` that are at their defaults: what versions without these keys wrote.

    Names and hashes made of it stay what they were when a version adds keys.

    Args:
        config: a dataclass.
        later: names of its fields that have a default.
    """
    at_default = {
        item.name for item in fields(config) if item.name in later and getattr(config, item.name) == item.default
    }
    return {key: value for key, value in to_tree(config).items() if key not in at_default}


def to_yaml(config: Any) -> str:
    """The config as the YAML text from which `load_config` makes it again."""
    return yaml.safe_dump(to_tree(config), sort_keys=False, allow_unicode=True, width=100)


def documented_keys(schema: type) -> list[Key]:
    """Every key of a config schema in the order of its fields; each kind of a tagged union has its own entries."""
    return list(_walk(schema, ""))


def argument_parser(schema: type, prog: str, purpose: str) -> argparse.ArgumentParser:
    """The command line all jobs share: `--config FILE`, `--print-config`, `--help`, and overrides."""
    width = max(len(key.path) for key in documented_keys(schema))
    lines = [f"  {key.path:<{width}}  {key.doc} [{key.default}]" for key in documented_keys(schema)]
    parser = argparse.ArgumentParser(
        prog=prog,
        description=purpose,
        epilog="keys, with their defaults:\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with settings")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config as YAML and exit")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="settings; they override those in the file"
    )
    return parser


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
    if stripped in ("null", "~") and _optional(hint):
        return None
    item = _item(hint)
    if item is not None:
        opening: tuple[str, ...] = ("[", "{") if _dataclasses_of(item) else ("[",)
    else:
        opening = () if hint is None or _takes_text(hint) else ("[", "{", '"', "'")
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
    for candidate in _dataclasses_of(hint):
        if kind in getattr(candidate, "former_kinds", ()):
            return _kind(candidate)
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
    hints = typing.get_type_hints(schema, include_extras=True)
    normal = dict(tree)
    for field in dataclasses.fields(schema):
        value, hint = normal.get(field.name), hints[field.name]
        item = _item(hint)
        if item is not None and (isinstance(value, str | int | float) or (value and isinstance(value, Mapping))):
            normal[field.name] = [value]
        elif item is None and isinstance(value, Mapping):
            normal[field.name] = _normalised_section(field, hint, value)
    return normal


def _normalised_section(field: dataclasses.Field[Any], hint: Any, section: Mapping[str, Any]) -> dict[str, Any]:
    if field.default_factory is not dataclasses.MISSING:
        kind = _kind(type(field.default_factory()))
        section = section if kind is None else {"kind": kind, **section}
    if "kind" in section:
        section = {**section, "kind": _present_kind(hint, section["kind"])}
    for candidate in _dataclasses_of(hint):
        if _kind(candidate) in (None, section.get("kind")):
            return _normalised(candidate, section)
    return dict(section)


def _explain(schema: type, tree: Mapping[str, Any], detail: Mapping[str, Any]) -> str:
    """One line for one of pydantic's findings, in the words of this project's config."""
    location = _without_tags(tree, detail["loc"])
    path = ".".join(location)
    if detail["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        section = _section(schema, tree, location[:-1])
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


def _section(schema: Any, tree: Any, path: Sequence[str]) -> type | None:
    """The dataclass that holds the keys at `path`, with each union resolved by the `kind` in `tree`."""
    item = _item(schema)
    if item is not None and path:
        items = tree if isinstance(tree, list | tuple) else []
        return _section(
            item, items[int(path[0])] if path[0].isdecimal() and int(path[0]) < len(items) else None, path[1:]
        )
    for candidate in _dataclasses_of(schema):
        if isinstance(tree, Mapping) and _kind(candidate) not in (None, tree.get("kind", _kind(candidate))):
            continue
        if not path:
            return candidate
        hints = typing.get_type_hints(candidate, include_extras=True)
        if path[0] in hints:
            return _section(hints[path[0]], tree.get(path[0]) if isinstance(tree, Mapping) else None, path[1:])
    return None


def _hint(schema: type, tree: Mapping[str, Any], keys: Sequence[str]) -> Any:
    """The type of a key, by the kinds of its sections in a normalised tree; None where there is no such key."""
    section = _section(schema, tree, keys[:-1])
    return typing.get_type_hints(section, include_extras=True).get(keys[-1]) if section else None


def _kind(schema: type) -> str | None:
    hint = typing.get_type_hints(schema).get("kind")
    return get_args(hint)[0] if get_origin(hint) is Literal else None


def _dataclasses_of(hint: Any) -> list[type]:
    """The dataclasses that a type hint admits."""
    return [member for member in _members(hint) if isinstance(member, type) and dataclasses.is_dataclass(member)]


def _members(hint: Any) -> list[Any]:
    """The plain types that a type hint admits: the inside of `Annotated`, the members of a union."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        return [found for member in get_args(hint) for found in _members(member)]
    return [hint]


def _item(hint: Any) -> Any:
    """The type of a list's items, of a hint that admits a list; None of others."""
    return next((get_args(member)[0] for member in _members(hint) if get_origin(member) is tuple), None)


def _takes_text(hint: Any) -> bool:
    return any(member is str or get_origin(member) is Literal for member in _members(hint))


def _walk(schema: type, prefix: str) -> Iterator[Key]:
    hints = typing.get_type_hints(schema, include_extras=True)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        path = prefix + field.name
        sections = _dataclasses_of(hint)
        if field.name == "kind":
            yield Key(path, _kind(schema) or "", (schema.__doc__ or "").strip().splitlines()[0])
        elif sections and not _optional(hint):
            for section in sections:
                yield from _walk(section, f"{path}.")
        else:
            yield Key(path, _default(field), _doc(hint))
            if sections and field.default is not None:
                for section in sections:
                    yield from _walk(section, f"{path}.")


def _optional(hint: Any) -> bool:
    return type(None) in _members(hint)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value: Any = to_tree(field.default_factory())
    elif field.default is dataclasses.MISSING:
        return "required"
    else:
        value = list(field.default) if isinstance(field.default, tuple) else field.default
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("\n").removesuffix("\n...")


def _doc(hint: Any) -> str:
    infos = (
        [item for item in get_args(hint)[1:] if isinstance(item, FieldInfo)] if get_origin(hint) is Annotated else []
    )
    return " ".join(info.description for info in infos if info.description)
