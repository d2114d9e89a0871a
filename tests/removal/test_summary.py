from dataclasses import replace
from datetime import UTC, datetime

from inpaint_core.removal.catalogue.totals import Totals, totals
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.record import STATUSES, FoundObject, Record, to_table
from inpaint_core.removal.summary import Summary, exit_code, summary_lines

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
        "held: cleaned images for a person to look at (30 break likeness >= -0.2); under their keys: the cleaned versions; "
        "`inpaint review out` shows them first"
    )
    assert exit_code(CONFIG, replace(SUMMARY, totals=held)) == 0


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
