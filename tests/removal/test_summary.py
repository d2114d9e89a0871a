import argparse
import shlex
from dataclasses import fields, replace
from datetime import UTC, datetime

from inpaint_core.removal.catalogue.totals import Totals, totals
from inpaint_core.removal.command_line import add_s3_arguments, s3_options
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.record import STATUSES, FoundObject, Record, to_table
from inpaint_core.removal.summary import Summary, exit_code, summary_lines
from inpaint_core.storage import S3Options

TOTALS = Totals({"cleaned": 1200, "unchanged": 3, "held": 0, "failed": 1}, {"person": 5}, 0, exact=1150, compared=1190)
SUMMARY = Summary(1204, 0, 0, 1204, TOTALS, 10.0, 1.0, False, "out/_removal/records")
CONFIG = RemoveConfig("in", "out")


def test_summary_counts_images_that_are_identical_outside_the_mask() -> None:
    line = next(line for line in summary_lines(CONFIG, SUMMARY) if "outside_exact" in line)
    assert line.startswith("1,150 of 1,190 cleaned images are identical outside the mask ")


def test_held_images_are_counted_and_the_way_to_look_at_them_is_told() -> None:
    held = replace(TOTALS, by_status=TOTALS.by_status | {"held": 30}, by_broken_rule={"likeness >= -0.2": 30})
    lines = summary_lines(CONFIG, replace(SUMMARY, totals=held))
    assert lines[0].startswith("1,200 cleaned, 30 held, 3 unchanged, 1 failed of 1,204 images")
    assert lines[1] == (
        "held: cleaned images that a person should check (30 break likeness >= -0.2); their outputs: the cleaned versions; "
        "`inpaint review out` shows them first"
    )
    assert exit_code(CONFIG, replace(SUMMARY, totals=held)) == 0


def test_the_command_that_shows_held_images_reaches_their_bucket() -> None:
    s3 = S3Options(
        "http://127.0.0.1:8333", profile="my photos", requester_pays=True, encryption="aws:kms", kms_key="alias/mine"
    )
    config = RemoveConfig("in", "s3://bucket/my clean", s3=S3Options(region="eu-west-1"), output_s3=s3)
    held = replace(TOTALS, by_status=TOTALS.by_status | {"held": 1})
    line = summary_lines(config, replace(SUMMARY, totals=held))[1]
    command = line.split("`")[1]
    assert command == (
        "inpaint review 's3://bucket/my clean' --s3-endpoint http://127.0.0.1:8333 --s3-profile 'my photos' "
        "--s3-encryption aws:kms --s3-kms-key alias/mine --s3-requester-pays"
    )
    parser = argparse.ArgumentParser()
    add_s3_arguments(parser)
    assert s3_options(parser.parse_args(shlex.split(command)[3:])) == s3
    assert s3_options(parser.parse_args([])) == S3Options()
    # An option that is added later has an argument, too.
    assert {f"s3_{field.name}" for field in fields(S3Options)} - vars(parser.parse_args([])).keys() == {
        "s3_retry_minutes"
    }


def test_objects_and_pixels_of_held_images_count_as_those_of_cleaned_ones() -> None:
    found = [FoundObject("car", 0.9, (0.0, 0.0, 9.0, 9.0), 80)]
    records = [
        Record("a", 1, "", "r", "h", datetime.now(UTC), status=status, objects=found, outside_exact=True)
        for status in STATUSES
    ]
    counted = totals(to_table(records))
    assert (counted.by_label, counted.exact, counted.compared) == ({"car": 2}, 2, 2)


def test_summary_says_nothing_of_it_where_no_image_was_compared() -> None:
    lines = summary_lines(CONFIG, replace(SUMMARY, totals=replace(TOTALS, exact=0, compared=0)))
    assert not any("outside_exact" in line for line in lines)
