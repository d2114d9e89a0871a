"""The rules that apply in a job, and settings of them that would silently have no effect: refused before it starts."""

from __future__ import annotations

from inpaint_core.errors import ConfigError
from inpaint_core.removal.acceptance import Rule
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.record import SHIFTED_HOLE_COLUMNS

_MEASURED_BY = {
    "likeness": "residual_objects",
    "residual_objects": "residual_objects",
    **dict.fromkeys(SHIFTED_HOLE_COLUMNS, "shifted_hole"),
}
"""Settings of `measure` without which a column is null."""


def rules_of(config: RemoveConfig) -> tuple[Rule, ...]:
    """The rules that apply: those that are given, then default ones."""
    return tuple(dict.fromkeys((*config.accept.given_rules(), *default_rules_of(config))))


def default_rules_of(config: RemoveConfig) -> tuple[Rule, ...]:
    """The default rules that apply: not those on columns that are not measured, and none with mask files, which a user made."""
    if not config.detector.looks_at_pixels:
        return ()
    return tuple(rule for rule in config.accept.default_rules() if _is_measured(config, rule.column))


def rules_change_outputs(config: RemoveConfig) -> bool:
    """Whether what lies under a key depends on the rules; otherwise only the record of an image does."""
    return bool(rules_of(config)) and (config.accept.instead != "cleaned" or bool(config.retry))


def check_rules(config: RemoveConfig) -> None:
    """Refuse rules that would hold nothing, since their column is never measured, and attempts that nothing asks for.

    Raises:
        ConfigError: names the rule, or `retry`.
    """
    if config.retry and not rules_of(config):
        raise ConfigError(
            "retry: without a rule of accept no result is held, and none is tried again; set a rule, such as "
            "accept.min_likeness=-0.2"
        )
    for rule in config.accept.given_rules():
        if _is_measured(config, rule.column):
            continue
        switch = _MEASURED_BY[rule.column]
        if not getattr(config.measure, switch):
            raise ConfigError(
                f"accept: the rule `{rule}` would hold nothing, since {rule.column} is not measured: set measure.{switch}=true, "
                "or leave the rule out"
            )
        raise ConfigError(
            f"accept: the rule `{rule}` would hold nothing, since {rule.column} is not measured with mask files: leave it out"
        )


def _is_measured(config: RemoveConfig, column: str) -> bool:
    switch = _MEASURED_BY.get(column)
    if switch is None:
        return True
    needs_detector = switch == "residual_objects"
    return getattr(config.measure, switch) and (config.detector.looks_at_pixels or not needs_detector)
