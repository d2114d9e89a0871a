"""Rules for results, and what becomes of images that break one."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError
from inpaint_core.removal.acceptance import AcceptConfig, Instead, Rule, parse_rule
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.catalogue.totals import totals
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.job import config_hash
from inpaint_core.removal.record import Record, to_table
from inpaint_core.removal.summary import Summary, summary_lines
from inpaint_core.storage import open_storage
from tests import jobs
from tests.samples import encoded, painted, photograph

SMALL, LARGE = (30, 20, 40, 30), (10, 10, 70, 80)


def test_rules_of_the_settings_in_order() -> None:
    accept = AcceptConfig(max_seam=3, max_residual_objects=0, rules=("psnr >= 20", " l1<=1e-1 "))
    assert [str(rule) for rule in accept.all_rules()] == [
        "residual_objects <= 0",
        "seam <= 3",
        "psnr >= 20",
        "l1 <= 0.1",
    ]
    assert AcceptConfig().all_rules() == ()


@pytest.mark.parametrize(
    ("value", "sign", "broken"), [(3.0, "<=", False), (3.1, "<=", True), (3.0, ">=", False), (2.9, ">=", True)]
)
def test_bound_itself_is_accepted(value: float, sign: str, broken: bool) -> None:
    record = Record("x", 1, "", "", "", datetime.now(UTC), seam=value)
    assert Rule("seam", sign, 3.0).is_broken_by(record) is broken
    assert not Rule("psnr", sign, 3.0).is_broken_by(record)  # null


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("psnr > 20", r"'psnr > 20' is not a rule; write it as `column <= number` or `column >= number`"),
        ("psnr", "is not a rule"),
        ("key <= 3", r"'key' is not a numeric column of the records: source_size, width, height, mask_fraction, "),
        ("snr >= 3", "'snr' is not a numeric column"),
    ],
)
def test_what_is_no_rule_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^accept\.rules: .*{message}"):
        parse_rule(text)
    with pytest.raises(ConfigError, match=r"^accept\.rules: "):
        load_config(RemoveConfig, None, ["input=in", "output=out", f"accept.rules=[{text}]"])


def test_rules_count_in_the_hash_only_where_there_are_any() -> None:
    def hash_of(*settings: str) -> str:
        return config_hash(load_config(RemoveConfig, None, ["input=in", "output=out", *settings]), None, None)

    assert hash_of("accept.instead=original") == hash_of()
    assert len({hash_of(), hash_of("accept.max_seam=3"), hash_of("accept.max_seam=4")}) == 3


@pytest.fixture
def settings(tmp_path: Path) -> RemoveConfig:
    """A job with an image whose hole is small, one whose hole is large, and one without an object."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "some.png").touch()
    (tmp_path / "in" / "sub").mkdir(parents=True)
    plain = photograph((96, 80), seed=3)
    for key, image in (
        ("small.png", painted(plain, SMALL)),
        ("sub/large.png", painted(plain, LARGE)),
        ("none.png", plain),
    ):
        (tmp_path / "in" / key).write_bytes(encoded(image))
    return jobs.config(str(tmp_path / "in"), str(tmp_path / "out"), tmp_path / "masks")


def held(settings: RemoveConfig, instead: Instead = "original") -> RemoveConfig:
    return replace(settings, accept=AcceptConfig(max_mask_fraction=0.2, instead=instead))


def outputs(settings: RemoveConfig) -> dict[str, bytes]:
    return jobs.written(open_storage(settings.output))


def inside(settings: RemoveConfig) -> list[str]:
    return sorted(info.key for info in open_storage(settings.output).list("_removal/held"))


@pytest.mark.parametrize("instead", ["original", "cleaned", "nothing"])
def test_image_that_breaks_a_rule_is_held(settings: RemoveConfig, instead: Instead) -> None:
    plain = jobs.run(settings)
    cleaned = outputs(settings)
    original = (Path(settings.input) / "sub/large.png").read_bytes()
    rows = jobs.run(held(settings, instead))
    assert {key: row["status"] for key, row in rows.items()} == {
        "small.png": "cleaned",
        "sub/large.png": "held",
        "none.png": "unchanged",
    }
    large = rows["sub/large.png"]
    assert large["held_for"] == ["mask_fraction <= 0.2"]
    assert large["mask_fraction"] == plain["sub/large.png"]["mask_fraction"] > 0.2
    assert rows["small.png"]["held_for"] is None
    assert inside(settings) == ["_removal/held/sub/large.png"]
    assert open_storage(settings.output).read("_removal/held/sub/large.png") == cleaned["sub/large.png"]
    after = outputs(settings)
    wanted = {"original": original, "cleaned": cleaned["sub/large.png"], "nothing": None}[instead]
    assert after.get("sub/large.png") == wanted
    assert large["output_size"] == (None if wanted is None else len(wanted))
    assert after["small.png"] == cleaned["small.png"]
    assert open_storage(settings.output).exists("_removal/masks/sub/large.png.png")
    # The same again has nothing to do, and without the rule the image is cleaned again.
    _, todo = jobs.start(held(settings, instead))
    assert (len(todo.pending), todo.done) == (0, 3)
    rows = jobs.run(settings)
    assert rows["sub/large.png"]["status"] == "cleaned"
    assert outputs(settings) == cleaned
    assert inside(settings) == []


def test_dry_run_holds_nothing(settings: RemoveConfig) -> None:
    jobs.run(replace(held(settings), dry_run=True))
    records = read_records(open_storage(settings.output), dry_run=True).to_pylist()
    assert {row["key"]: row["status"] for row in records}["sub/large.png"] == "cleaned"
    assert outputs(settings) == {}


def test_summary_says_how_many_and_why(settings: RemoveConfig) -> None:
    now = datetime.now(UTC)
    records = [
        Record("a", 1, "", "r", "h", now, status="held", held_for=["seam <= 3", "psnr >= 20"]),
        Record("b", 1, "", "r", "h", now, status="held", held_for=["seam <= 3"]),
        Record("c", 1, "", "r", "h", now, status="cleaned"),
    ]
    summary = Summary(
        3, 0, 0, 3, totals(to_table(records)), 1.0, 1.0, interrupted=False, records="out/_removal/records"
    )
    lines = summary_lines(held(settings, "nothing"), summary)
    assert lines[0].startswith("1 cleaned, 0 unchanged, 0 failed of 3 images")
    assert lines[1] == (
        "2 cleaned images are held in _removal/held (2 break seam <= 3, 1 break psnr >= 20); under their keys: nothing"
    )


def test_a_rule_can_be_about_the_size_of_the_output(settings: RemoveConfig) -> None:
    sizes = {key: row["output_size"] for key, row in jobs.run(settings).items()}
    bound = sizes["small.png"]
    rows = jobs.run(replace(settings, accept=AcceptConfig(rules=(f"output_size >= {bound + 1}",))))
    assert rows["small.png"]["held_for"] == [f"output_size >= {float(bound + 1):g}"]
    assert rows["none.png"]["status"] == "unchanged"


def test_a_held_image_that_cannot_be_written_is_failed_and_not_held(settings: RemoveConfig) -> None:
    Path(settings.output, "sub", "large.png").mkdir(parents=True)
    row = jobs.run(held(settings))["sub/large.png"]
    assert (row["status"], row["stage"], row["held_for"]) == ("failed", "write", None)
