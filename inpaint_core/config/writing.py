"""Configs as plain values and YAML, and the documentation of their keys."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic.fields import FieldInfo

from inpaint_core.config.schema import adapter_of, admits_none, dataclasses_of, hints_of, kind_of


@dataclass(frozen=True)
class Key:
    """One documented key of a config: its path (`detector.classes`), default as YAML, and what it means."""

    path: str
    default: str
    doc: str


def to_tree(config: Any) -> dict[str, Any]:
    """The config as plain YAML values (dicts, lists, numbers, strings, None)."""
    tree = adapter_of(type(config)).dump_python(config, mode="json")
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


def _walk(schema: type, prefix: str) -> Iterator[Key]:
    hints = hints_of(schema)
    for field in dataclasses.fields(schema):
        hint = hints[field.name]
        path = prefix + field.name
        sections = dataclasses_of(hint)
        if field.name == "kind":
            yield Key(path, kind_of(schema) or "", (schema.__doc__ or "").strip().splitlines()[0])
        elif sections and not admits_none(hint):
            for section in sections:
                yield from _walk(section, f"{path}.")
        else:
            yield Key(path, _default(field), _doc(hint))
            if sections and field.default is not None:
                for section in sections:
                    yield from _walk(section, f"{path}.")


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
