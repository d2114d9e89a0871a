"""What result is good enough: rules on the columns of a record, and what stands under the key of an image that breaks one.

Of several results of an image that all break a rule, the one with the lowest `severity` is the best.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction
from inpaint_core.errors import ConfigError

if TYPE_CHECKING:
    from inpaint_core.removal.record import Record

Instead = Literal["original", "cleaned", "nothing", "blurred"]

_RULE = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(-?\d+(?:\.\d*)?(?:[eE]-?\d+)?)\s*")


@with_config(STRICT)
@dataclass(frozen=True)
class AcceptConfig:
    """Rules for cleaned images. One that breaks a rule gets the status `held`, and is kept in `_removal/held/`."""

    added: ClassVar[tuple[str, ...]] = (
        "min_likeness",
        "max_residual_objects",
        "max_seam",
        "max_mask_fraction",
        "rules",
        "instead",
    )

    min_likeness: Annotated[
        float | None,
        Field(
            ge=-1,
            le=1,
            description="Minimum of the record's `likeness`, how much the fill looks like its surroundings; -0.2 is a sensible value (docs/performance.md). null: no rule.",
        ),
    ] = None
    max_residual_objects: Annotated[
        int | None, Field(ge=0, description="Maximum of the record's `residual_objects`; null: no rule.")
    ] = None
    max_seam: Annotated[float | None, Field(gt=0, description="Maximum of the record's `seam`; null: no rule.")] = None
    max_mask_fraction: Annotated[
        Fraction | None, Field(description="Maximum of the record's `mask_fraction`; null: no rule.")
    ] = None
    rules: Annotated[
        tuple[str, ...],
        Field(description="Further rules on numeric columns of the records, such as `psnr >= 20` or `l1 <= 0.1`."),
    ] = ()
    instead: Annotated[
        Instead,
        Field(
            description="Under the key of a held image: the `original`, its `cleaned` version, `nothing`, or `blurred`: the original with the removed objects blurred."
        ),
    ] = "original"

    def __post_init__(self) -> None:
        for rule in self.rules:
            parse_rule(rule)

    def all_rules(self) -> tuple[Rule, ...]:
        """The rules in the order in which they are told."""
        named = (
            ("likeness", ">=", self.min_likeness),
            ("residual_objects", "<=", self.max_residual_objects),
            ("seam", "<=", self.max_seam),
            ("mask_fraction", "<=", self.max_mask_fraction),
        )
        given = [Rule(column, sign, float(bound)) for column, sign, bound in named if bound is not None]
        return (*given, *(parse_rule(rule) for rule in self.rules))


@dataclass(frozen=True)
class Rule:
    """A bound of a column.

    Args:
        column: name of a numeric column of `record.SCHEMA`.
        sign: `<=` or `>=`.
        bound: the number.
    """

    column: str
    sign: str
    bound: float

    def is_broken_by(self, record: Record) -> bool:
        """Whether a record breaks the rule. A column that is null keeps every rule."""
        return self.excess(record) > 0

    def excess(self, record: Record) -> float:
        """By how much a record breaks the rule, as a fraction of the bound (of 1 where that is 0); 0: it keeps the rule."""
        value = getattr(record, self.column)
        if value is None:
            return 0.0
        beyond = value - self.bound if self.sign == "<=" else self.bound - value
        return max(0.0, float(beyond)) / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        return f"{self.column} {self.sign} {self.bound:g}"


def parse_rule(text: str) -> Rule:
    """The rule that a text means.

    Raises:
        ConfigError: no rule, or not of a numeric column.
    """
    match = _RULE.fullmatch(text)
    if match is None:
        raise ConfigError(f"accept.rules: {text!r} is not a rule; write it as `column <= number` or `column >= number`")
    import pyarrow as pa  # settings are read before anything else is loaded

    from inpaint_core.removal.record import RETRY_COLUMNS, SCHEMA

    column, sign, bound = match.groups()
    numeric = [
        field.name
        for field in SCHEMA
        if (pa.types.is_integer(field.type) or pa.types.is_floating(field.type)) and field.name not in RETRY_COLUMNS
    ]
    if column not in numeric:
        raise ConfigError(f"accept.rules: {column!r} is not a numeric column of the records: {', '.join(numeric)}")
    return Rule(column, sign, float(bound))


def severity(rules: Sequence[Rule], record: Record) -> tuple[int, float]:
    """How bad a result is: the number of rules that it breaks, then the sum of `Rule.excess`. The lowest is the best."""
    excesses = [rule.excess(record) for rule in rules]
    return sum(excess > 0 for excess in excesses), sum(excesses)
