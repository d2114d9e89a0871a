"""The README's tables, made from the code: `python -m tools.reference README.md` brings them in line.

A table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from inpaint_core.config import documented_keys
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.record import SCHEMA
from inpaint_core.training.config import TrainConfig
from inpaint_core.training.evaluation.config import EvaluateConfig
from inpaint_core.training.sweep.config import TuneConfig


def config_table(schema: type, *, without: str | None = None) -> str:
    """Every key of a job's config, but for those of a section that another table has: path, default, meaning."""
    keys = (key for key in documented_keys(schema) if without is None or not key.path.startswith(f"{without}."))
    rows = ((f"`{key.path}`", f"`{key.default}`", key.doc) for key in keys)
    return _table(("key", "default", "what it means"), rows)


def record_table() -> str:
    """Every column of a removal record: name, type, meaning."""
    rows = ((f"`{field.name}`", _short(str(field.type)), field.metadata[b"doc"].decode()) for field in SCHEMA)
    return _table(("column", "type", "what it says"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "config": lambda: config_table(RemoveConfig),
    "record": record_table,
    "train": lambda: config_table(TrainConfig),
    "tune": lambda: config_table(TuneConfig, without="training"),
    "evaluate": lambda: config_table(EvaluateConfig),
}


def with_tables(text: str) -> str:
    """The text with each marked table made anew.

    Raises:
        KeyError: a marker names a table that does not exist.
    """
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{TABLES[match[2]]()}{match[3]}",
        text,
        flags=re.DOTALL,
    )


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    escaped = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _short(arrow_type: str) -> str:
    if arrow_type.startswith("list<"):
        return "list of structs"
    return (
        "struct" if arrow_type.startswith("struct<") else arrow_type.replace("timestamp[us, tz=UTC]", "timestamp (UTC)")
    )


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
