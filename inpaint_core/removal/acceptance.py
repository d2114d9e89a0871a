"""Which results are good enough: rules on the columns of a record, and the output of an image that breaks one.

Of several results of an image that all break a rule, the one with the lowest `severity` is the best.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, with_config

from inpaint_core.config import STRICT, Fraction, to_earlier_tree
from inpaint_core.errors import ConfigError

if TYPE_CHECKING:
    from inpaint_core.removal.record import Record

Instead = Literal["original", "cleaned", "nothing", "blurred"]

_RULE = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(-?\d+(?:\.\d*)?(?:[eE]-?\d+)?)\s*")


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


DEFAULT_RULES = (Rule("likeness", ">=", -0.2), Rule("residual_objects", "<=", 0.0), Rule("mask_fraction", "<=", 0.35))
"""What people agree with most, of the columns that a job measures anyway: `benchmarks/acceptance.py`."""


@with_config(STRICT)
@dataclass(frozen=True)
class AcceptConfig:
    """Rules for cleaned images. One that breaks a rule gets the status `held`, so that a person looks at it."""

    defaults: Annotated[
        bool,
        Field(
            description="Default rules `likeness >= -0.2`, `residual_objects <= 0` and `mask_fraction <= 0.35` (docs/performance.md), each if its column is measured and has no other rule. Not with mask files. `false`: only rules that are given; without any, no image is held."
        ),
    ] = True
    min_likeness: Annotated[
        float | None,
        Field(
            ge=-1,
            le=1,
            description="Minimum of the record's `likeness`, the similarity of the fill to its surroundings; null: see `defaults`.",
        ),
    ] = None
    max_residual_objects: Annotated[
        int | None, Field(ge=0, description="Maximum of the record's `residual_objects`; null: see `defaults`.")
    ] = None
    max_seam: Annotated[float | None, Field(gt=0, description="Maximum of the record's `seam`; null: no rule.")] = None
    max_mask_fraction: Annotated[
        Fraction | None, Field(description="Maximum of the record's `mask_fraction`; null: see `defaults`.")
    ] = None
    rules: Annotated[
        tuple[str, ...],
        Field(description="Further rules on numeric columns of the records, such as `psnr >= 20` or `l1 <= 0.1`."),
    ] = ()
    instead: Annotated[
        Instead,
        Field(
            description="Output of a held image: its `cleaned` version, the `original`, `nothing`, or `blurred`: the original with the removed objects blurred. Except with `cleaned`, the cleaned version is kept in `_removal/held/`."
        ),
    ] = "cleaned"

    def __post_init__(self) -> None:
        for rule in self.rules:
            parse_rule(rule)

    def given_rules(self) -> tuple[Rule, ...]:
        """The rules that are given, in the order in which they are told."""
        named = (
            ("likeness", ">=", self.min_likeness),
            ("residual_objects", "<=", self.max_residual_objects),
            ("seam", "<=", self.max_seam),
            ("mask_fraction", "<=", self.max_mask_fraction),
        )
        given = [Rule(column, sign, float(bound)) for column, sign, bound in named if bound is not None]
        return (*given, *(parse_rule(rule) for rule in self.rules))

    def default_rules(self) -> tuple[Rule, ...]:
        """Those of the default rules about whose column no rule is given."""
        given = {rule.column for rule in self.given_rules()}
        return tuple(rule for rule in DEFAULT_RULES if rule.column not in given) if self.defaults else ()

    def hashed(self, defaults: Sequence[Rule]) -> dict[str, Any]:
        """The section in a hash of settings, where rules decide what lies under a key.

        Left out is what versions without default rules left out (keys without a rule, and `original`), so that the hashes of their runs stay.

        Args:
            defaults: the default rules that apply.
        """
        before = ("min_likeness", "max_residual_objects", "max_seam", "max_mask_fraction", "rules")
        tree = to_earlier_tree(replace(self, defaults=True), (*before, "defaults"))
        if self.instead == "original":
            del tree["instead"]
        return tree | ({"defaults": [str(rule) for rule in defaults]} if defaults else {})


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
