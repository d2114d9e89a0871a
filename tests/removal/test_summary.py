from dataclasses import replace

from inpaint_core.removal.catalogue.totals import Totals
from inpaint_core.removal.config import RemoveConfig
from inpaint_core.removal.summary import Summary, summary_lines

TOTALS = Totals({"cleaned": 1200, "unchanged": 3, "held": 0, "failed": 1}, {"person": 5}, 0, exact=1150, compared=1190)
SUMMARY = Summary(1204, 0, 0, 1204, TOTALS, 10.0, 1.0, False, "out/_removal/records")
CONFIG = RemoveConfig("in", "out")


def test_summary_counts_images_that_are_identical_outside_the_mask() -> None:
    line = next(line for line in summary_lines(CONFIG, SUMMARY) if "outside_exact" in line)
    assert line.startswith("1,150 of 1,190 cleaned images are identical outside the mask ")


def test_summary_says_nothing_of_it_where_no_image_was_compared() -> None:
    lines = summary_lines(CONFIG, replace(SUMMARY, totals=replace(TOTALS, exact=0, compared=0)))
    assert not any("outside_exact" in line for line in lines)
