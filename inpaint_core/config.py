"""Typed configs of the jobs: a YAML file, `key.path=value` overrides on top, one form of error.

A config is a tree of frozen dataclasses whose fields carry their documentation and bounds as `pydantic.Field`;
it is validated once, here, and the rest of the code trusts it.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from inpaint_core.errors import ConfigError

T = TypeVar("T")

STRICT = ConfigDict(extra="forbid")
"""What every dataclass of a config is declared with: a key that it does not have is an error."""

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

    A value is taken as text and read by the key's type; lists and maps are written in YAML's flow form
    (`detector.classes=[person, car]`), and `null` is no value. Choosing another `kind` than the file's drops the
    file's other keys of that section, since they belong to the other kind.

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
        settings.append((path.strip().split("."), _parse_value(path, text)))
    # Kinds first, wherever they stand: they drop the file's keys, not those of the command line.
    for keys, value in sorted(settings, key=lambda setting: setting[0][-1] != "kind"):
        _set(tree, keys, value)
    return validate(schema, tree)


def validate(schema: type[T], tree: Mapping[str, Any]) -> T:
    """The config that a tree of plain values describes.

    Raises:
        ConfigError: every wrong key and value, one line each.
    """
    tree = _with_default_kinds(schema, tree)
    try:
        return TypeAdapter(schema).validate_python(tree)
    except ValidationError as error:
        lines = [_explain(schema, tree, detail) for detail in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from None


def as_tuple(value: object) -> object:
    """One name as a tuple of one, so that `holes.kinds=box` is as good as `holes.kinds=[box]`."""
    return (value,) if isinstance(value, str) else value


def to_tree(config: Any) -> dict[str, Any]:
    """The config as plain YAML values (dicts, lists, numbers, strings, None)."""
    tree = TypeAdapter(type(config)).dump_python(config, mode="json")
    return dict(tree)


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
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the config")
    parser.add_argument("--print-config", action="store_true", help="print the resolved config as YAML and exit")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.path=value", help="settings, which override those of the file"
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


def _parse_value(path: str, text: str) -> Any:
    stripped = text.strip()
    if stripped in ("null", "~"):
        return None
    if stripped[:1] in ("[", "{", '"', "'"):
        try:
            return yaml.safe_load(stripped)
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: {text!r} is not a YAML value: {' '.join(str(error).split())}") from error
    return text


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


def _with_default_kinds(schema: type, tree: Mapping[str, Any]) -> dict[str, Any]:
    """The tree with the default `kind` in each section that has kinds and does not say which it means."""
    filled = dict(tree)
    for field in dataclasses.fields(schema):
        section = filled.get(field.name)
        if isinstance(section, Mapping) and field.default_factory is not dataclasses.MISSING:
            default = type(field.default_factory())
            kind = _kind(default)
            if kind is not None:
                filled[field.name] = {"kind": kind, **section}
            elif dataclasses.is_dataclass(default):
                filled[field.name] = _with_default_kinds(default, section)
    return filled


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
    for candidate in _dataclasses_of(schema):
        if isinstance(tree, Mapping) and _kind(candidate) not in (None, tree.get("kind", _kind(candidate))):
            continue
        if not path:
            return candidate
        hints = typing.get_type_hints(candidate, include_extras=True)
        if path[0] in hints:
            return _section(hints[path[0]], tree.get(path[0]) if isinstance(tree, Mapping) else None, path[1:])
    return None


def _kind(schema: type) -> str | None:
    hint = typing.get_type_hints(schema).get("kind")
    return get_args(hint)[0] if get_origin(hint) is Literal else None


def _dataclasses_of(hint: Any) -> list[type]:
    """The dataclasses that a type hint admits: itself, the inside of `Annotated`, the members of a union."""
    if get_origin(hint) is Annotated:
        return _dataclasses_of(get_args(hint)[0])
    if get_origin(hint) in (typing.Union, types.UnionType):
        return [found for member in get_args(hint) for found in _dataclasses_of(member)]
    return [hint] if dataclasses.is_dataclass(hint) and isinstance(hint, type) else []


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
    if get_origin(hint) is Annotated:
        return _optional(get_args(hint)[0])
    return type(None) in get_args(hint)


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
