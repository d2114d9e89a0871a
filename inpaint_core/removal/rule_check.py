"""Settings that would have no effect, without a word, where a user relies on one: refused before a job starts."""

from __future__ import annotations

from inpaint_core.errors import ConfigError
from inpaint_core.removal.config import RemoveConfig

_MEASURED_BY = {
    "likeness": "residual_objects",
    "residual_objects": "residual_objects",
    "shifted_pixels": "shifted_hole",
    "l1": "shifted_hole",
    "l2": "shifted_hole",
    "psnr": "shifted_hole",
    "ssim": "shifted_hole",
}
"""Settings of `measure` without which a column is null."""


def check_rules(config: RemoveConfig) -> None:
    """Refuse rules that would hold nothing, since their column is never measured, and attempts that nothing asks for.

    Raises:
        ConfigError: names the rule, or `retry`.
    """
    rules = config.accept.all_rules()
    if config.retry and not rules:
        raise ConfigError(
            "retry: without a rule of accept no result is held, and none is tried again; set a rule, such as "
            "accept.min_likeness=-0.2"
        )
    for rule in rules:
        switch = _MEASURED_BY.get(rule.column)
        if switch is None:
            continue
        if not getattr(config.measure, switch):
            raise ConfigError(
                f"accept: the rule `{rule}` would hold nothing, since {rule.column} is not measured: set measure.{switch}=true, "
                "or leave the rule out"
            )
        if switch == "residual_objects" and not config.detector.looks_at_pixels:
            raise ConfigError(
                f"accept: the rule `{rule}` would hold nothing, since {rule.column} is not measured with mask files: leave it out"
            )
