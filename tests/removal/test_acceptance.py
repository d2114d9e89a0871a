"""Rules for results, and what becomes of images that break one."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import inpaint_core
from inpaint_core.config import load_config
from inpaint_core.errors import ConfigError
from inpaint_core.removal.acceptance import AcceptConfig, Instead, Rule, parse_rule
from inpaint_core.removal.catalogue.judge import RecordJudge
from inpaint_core.removal.catalogue.ledger import read_records
from inpaint_core.removal.catalogue.totals import totals
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.config_hash import config_hash
from inpaint_core.removal.job import finish_job, open_job, plan_job
from inpaint_core.removal.record import Record, to_table
from inpaint_core.removal.rule_check import check_rules, rules_of
from inpaint_core.removal.summary import Summary, summary_lines
from inpaint_core.storage import open_storage
from tests import jobs
from tests.samples import encoded, painted, photograph

SMALL, LARGE = (30, 20, 40, 30), (10, 10, 70, 80)


def test_rules_of_the_settings_in_order() -> None:
    accept = AcceptConfig(max_seam=3, max_residual_objects=0, rules=("psnr >= 20", " l1<=1e-1 "))
    assert [str(rule) for rule in accept.given_rules()] == [
        "residual_objects <= 0",
        "seam <= 3",
        "psnr >= 20",
        "l1 <= 0.1",
    ]
    assert AcceptConfig().given_rules() == ()


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


def load(*settings: str) -> RemoveConfig:
    return load_config(RemoveConfig, None, ["input=in", "output=out", *settings])


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ([], ["likeness >= -0.2", "residual_objects <= 0", "mask_fraction <= 0.35"]),
        (["accept.defaults=false"], []),
        (["accept.min_likeness=-0.4"], ["likeness >= -0.4", "residual_objects <= 0", "mask_fraction <= 0.35"]),
        (
            ["accept.rules=[mask_fraction <= 0.5, seam <= 3]"],
            ["mask_fraction <= 0.5", "seam <= 3", "likeness >= -0.2", "residual_objects <= 0"],
        ),
        (["accept.max_seam=3", "accept.rules=[seam <= 3]", "accept.defaults=false"], ["seam <= 3"]),
        (["measure.residual_objects=false"], ["mask_fraction <= 0.35"]),
        (["detector.kind=masks"], []),
        (["detector.kind=masks", "accept.max_mask_fraction=0.4"], ["mask_fraction <= 0.4"]),
    ],
)
def test_default_rules_are_those_that_are_measured_and_not_given(settings: list[str], expected: list[str]) -> None:
    config = load(*settings)
    assert [str(rule) for rule in rules_of(config)] == expected
    check_rules(config)


def test_rules_count_in_the_hash_only_where_they_decide_what_is_written() -> None:
    def hash_of(*settings: str) -> str:
        config = load(*settings)
        return config_hash(config, None, None, attempts=[(None, None)] * len(config.retry))

    # As before there were default rules, and `instead` was the original (with version 1 of the results of the generator).
    assert hash_of() == hash_of("accept.defaults=false") == hash_of("accept.max_seam=3") == "c310fa3af6397699"
    given = ("accept.defaults=false", "accept.max_seam=3")
    assert hash_of(*given, "accept.instead=nothing") == "177bf18009ac96f4"
    retry = ("accept.rules=[psnr >= 20]", "retry=[{fill: {context: 3}}]")
    assert hash_of(*given, *retry, "accept.instead=original") == "16e83c939821b50d"
    others = [(*given, *retry), (), retry, ("accept.instead=original",), ("accept.instead=blurred",), retry[1:]]
    others += [("accept.instead=original", "accept.max_seam=3"), ("accept.instead=original", "accept.max_seam=4")]
    assert len({hash_of(*settings) for settings in others}) == len(others)


def test_other_rules_are_applied_to_the_records_and_no_image_is_done_again(settings: RemoveConfig) -> None:
    before = jobs.run(settings)
    assert {row["status"] for row in before.values()} == {"cleaned", "unchanged"}
    images = outputs(settings)
    (old,) = (Path(settings.output) / "_removal" / "records").iterdir()
    content = old.read_bytes()
    told: list[str] = []
    job = open_job(held(settings, "cleaned"))
    job = replace(job, run=replace(job.run, run_id=f"later-{job.run.run_id}"))  # it may have begun in the same second
    todo = plan_job(job, told.append)
    assert (len(todo.pending), todo.done) == (0, 3)
    assert "rules of accept: earlier records changed (status or broken rules): 1" in told
    rows = {row["key"]: row for row in read_records(job.target).to_pylist()}
    changed = {"status": "held", "held_for": ["mask_fraction <= 0.2"]}
    assert rows == before | {"sub/large.png": before["sub/large.png"] | changed}
    assert finish_job(job, todo, told.append).by_status == {"cleaned": 1, "unchanged": 1, "held": 1, "failed": 0}
    # A second time there is nothing to say, also where the first was killed before the old records were deleted.
    told.clear()
    for _ in range(2):
        plan_job(job, told.append)
        assert not [line for line in told if "rules of accept" in line]
        assert {row["key"]: row for row in read_records(job.target).to_pylist()} == rows
        old.write_bytes(content)
    # Other bounds, and none.
    other = replace(settings, accept=AcceptConfig(max_mask_fraction=0.3, max_seam=0.001))
    assert jobs.run(other)["small.png"]["held_for"] == ["seam <= 0.001"]
    assert jobs.run(settings) == before
    assert outputs(settings) == images


def test_records_of_other_settings_and_of_decisions_keep_their_status() -> None:
    def record(key: str, **changes: Any) -> Record:
        return replace(
            Record(key, 1, "", "r", "h", datetime.now(UTC), status="cleaned", output_size=1, seam=4.0, psnr=10.0),
            **changes,
        )

    records = to_table(
        [
            record("cleaned"),
            record("good", seam=3.0, psnr=20.0),
            record("null", seam=None, psnr=None),
            record("held", status="held", held_for=["seam <= 1"]),
            record("as before", status="held", held_for=["seam <= 3", "psnr >= 20"]),
            record("released", status="held", held_for=["seam <= 1"], seam=2.0, psnr=30.0),
            record("accepted", decision="accept"),
            record("taken back", status="held", held_for=["seam <= 1"], output_size=None, seam=2.0, psnr=30.0),
            record("of others", config_hash="other"),
            record("unchanged", status="unchanged"),
            record("failed", status="failed"),
        ]
    )
    judge = RecordJudge([parse_rule("seam <= 3"), parse_rule("psnr >= 20")], "h")
    assert judge.columns == ("status", "held_for", "decision", "config_hash", "output_size", "seam", "psnr")
    assert judge.changes(records.select(judge.columns)) == 3
    after = judge.judged(records)
    assert after.schema.equals(records.schema)
    both = ["seam <= 3", "psnr >= 20"]
    names = ("key", "status", "held_for")
    changed = {
        tuple(row[name] if name != "held_for" else tuple(row[name] or ()) for name in names)
        for row in after.to_pylist()
    }
    assert changed >= {("cleaned", "held", tuple(both)), ("held", "held", tuple(both)), ("released", "cleaned", ())}
    kept = [row for row in records.to_pylist() if row["key"] not in ("cleaned", "held", "released")]
    assert [row for row in after.to_pylist() if row["key"] not in ("cleaned", "held", "released")] == kept
    assert judge.changes(after) == 0
    without = RecordJudge([], "h").judged(after).to_pylist()
    assert [row["key"] for row in without if row["status"] == "held"] == ["taken back"]  # which is done again


@pytest.mark.shared
@pytest.mark.parametrize(("name", "status"), [("000000000641.jpg", "held"), ("000000000164.jpg", "cleaned")])
def test_defaults_hold_what_a_person_rejects(shared_dir: Path, one_thread: None, name: str, status: str) -> None:
    """Photographs of `benchmarks/acceptance-labels.json`."""
    labels = json.loads((Path(__file__).parents[2] / "benchmarks" / "acceptance-labels.json").read_text())
    assert name in labels["rejected" if status == "held" else "accepted"]
    settings = {
        "detector.weights": str(shared_dir / "weights" / "yolov8n-seg.pt"),
        "detector.classes": labels["classes"],
        "measure.shifted_hole": False,
    }
    data = next((shared_dir / "data" / "coco64-seg").rglob(name)).read_bytes()
    cleaned, record = inpaint_core.load_remover(settings)(data)
    assert record.status == status
    assert bool(record.held_for) == (status == "held")
    assert cleaned is not None
    assert cleaned != data  # the original never comes back by default


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
    kept = [] if instead == "cleaned" else ["_removal/held/sub/large.png"]  # else it is under the key
    assert inside(settings) == kept
    for key in kept:
        assert open_storage(settings.output).read(key) == cleaned["sub/large.png"]
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
    assert lines[0].startswith("1 cleaned, 2 held, 0 unchanged, 0 failed of 3 images")
    assert lines[1] == (
        "held: cleaned images that a person should check (2 break seam <= 3, 1 break psnr >= 20); their outputs: nothing; "
        f"`inpaint review {settings.output}` shows them first"
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
