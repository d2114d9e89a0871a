"""The report as a browser sees it: parsed HTML always, a real Chromium where there is one."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from inpaint_core.errors import ConfigError
from inpaint_core.removal.catalogue.database import RecordDatabase
from inpaint_core.removal.record import SCHEMA, FoundObject, Record, to_table
from inpaint_core.removal.report.command import main
from inpaint_core.removal.report.page import sortable, statistics_of
from inpaint_core.removal.report.write import select, write_report
from inpaint_core.storage import Storage, open_storage

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
HOSTILE = "a/<script>alert('1')</script> & \"q\" 'n' ünï 日本 #1?%41.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def record(key: str, status: str = "unchanged", **values: object) -> Record:
    return Record(key, 10, "etag", "run-1", "hash-1", NOON, status=status, **values)  # type: ignore[arg-type]


@dataclass
class Card:
    classes: list[str]
    hidden: bool = False
    key: str = ""
    text: str = ""
    pictures: list[dict[str, str]] = field(default_factory=list)
    links: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """What is on the page: its cards in order, its scripts, and all addresses it names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.cards: list[Card] = []
        self.scripts: list[str] = []
        self.warnings: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self._inside: str | None = None
        self._in_cards = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self._in_cards |= given.get("id") == "cards"
        if tag == "li" and self._in_cards:
            self.cards.append(Card(given["class"].split(), "hidden" in given))
        elif tag == "img":
            self.cards[-1].pictures.append(given)
        elif tag == "a":
            self.cards[-1].links.append(given["href"])
        elif tag == "script":
            self.scripts.append("")
        elif given.get("class") == "warning":
            self.warnings.append("")
            tag = "warning"
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = None
        if tag == "ul":
            self._in_cards = False

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
            return
        if self._inside == "warning":
            self.warnings[-1] += data
        self.text += data
        if self._in_cards and self.cards:
            self.cards[-1].text += data
            if self._inside == "h3":
                self.cards[-1].key += data

    def card(self, key: str) -> Card:
        (found,) = (card for card in self.cards if card.key == key)
        return found


@dataclass
class Job:
    """An output with records of every kind, and its input."""

    folder: Path

    @property
    def output(self) -> Storage:
        return open_storage(str(self.folder / "out"))

    @property
    def source(self) -> Storage:
        return open_storage(str(self.folder / "in"))

    def put(self, place: str, key: str, data: bytes) -> int:
        path = self.folder / place / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return len(data)

    def add_cleaned(self, key: str, **values: object) -> Record:
        before = png(np.full((60, 400, 3), 200, np.uint8))
        after = png(np.full((60, 400, 3), 100, np.uint8))
        mask = np.zeros((60, 400), np.uint8)
        mask[10:50, 100:200] = 255
        self.put(
            "out", f"_removal/masks/{key}.png", cv2.imencode(".png", mask, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()
        )
        given = record(key, "cleaned", output_size=self.put("out", key, after), width=400, height=60, format="PNG")
        given.source_size = self.put("in", key, before)
        for name, value in {"outside_max_diff": 0, "seam": 1.0, "residual_objects": 0, **values}.items():
            setattr(given, name, value)
        return given

    def page(self, records: Sequence[Record], **options: object) -> Page:
        where = write_report(self.output, records=[to_table(records)], **options)  # type: ignore[arg-type]
        return Page(Path(where).read_text(encoding="utf-8"))


@pytest.fixture
def job(tmp_path: Path) -> Job:
    for name in ("in", "out/_removal"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "out/_removal/job.json").write_text(
        json.dumps({"input": str(tmp_path / "in"), "s3": {"endpoint": None}, "config": {"limit": 12345}})
    )
    return Job(tmp_path)


def png(image: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def thumbnail(picture: dict[str, str]) -> NDArray[np.uint8]:
    kind, _, data = picture["src"].partition(",")
    assert kind == "data:image/jpeg;base64"
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape == (int(picture["height"]), int(picture["width"]), 3)
    return np.asarray(image[..., ::-1], dtype=np.uint8)


def test_pictures_of_a_cleaned_image(job: Job) -> None:
    page = job.page([job.add_cleaned("a/b.png")])
    (card,) = page.cards
    assert [picture["alt"] for picture in card.pictures] == ["before: a/b.png", "mask: a/b.png", "after: a/b.png"]
    assert all(picture["loading"] == "lazy" for picture in card.pictures)
    before, mask, after = map(thumbnail, card.pictures)
    assert before.shape == (48, 320, 3)
    assert abs(int(before.mean()) - 200) < 3
    assert abs(int(after.mean()) - 100) < 3
    # The hole, columns 100 to 200 of 400, is tinted red; the rest is the photograph.
    assert mask[24, 120, 0] - int(mask[24, 120, 1]) > 80
    assert np.abs(mask[24, 10].astype(int) - 200).max() < 4
    assert np.abs(mask[24, 250].astype(int) - 200).max() < 4
    assert card.links == ["../a/b.png"]
    assert page.warnings == []


def test_a_hole_smaller_than_a_pixel_of_the_thumbnail_is_seen(job: Job) -> None:
    given = job.add_cleaned("large.png")
    mask = np.zeros((1500, 2000), np.uint8)
    mask[700:702, 1000:1002] = 255
    job.put("out", "_removal/masks/large.png.png", png(mask))
    given.source_size = job.put("in", "large.png", png(np.full((1500, 2000, 3), 128, np.uint8)))
    picture = thumbnail(job.page([given]).cards[0].pictures[1]).astype(int)
    assert (picture[..., 0] - picture[..., 1])[112, 160] > 40
    assert abs((picture[..., 0] - picture[..., 1])[100, 160]) < 8


def test_the_page_is_one_file_and_no_key_gets_out_of_its_text(job: Job) -> None:
    hostile = job.add_cleaned(HOSTILE, note="</script><img src=http://evil.example/x>")
    failed = record("b\nc.png", "failed", stage="decode", error="<b>cut off</b>\nhere")
    page = job.page([hostile, failed])
    assert page.card(HOSTILE).text.count(HOSTILE) == 1
    assert "</script><img src=http://evil.example/x>" in page.card(HOSTILE).text
    assert "<b>cut off</b>\nhere" in page.cards[0].text
    assert page.cards[0].key == "b\nc.png"
    assert "b" not in page.tags[page.tags.index("main") :]
    assert len(page.scripts) == 2
    assert page.card(HOSTILE).links == [
        "../a/%3Cscript%3Ealert%28%271%27%29%3C/script%3E%20%26%20%22q%22%20%27n%27%20%C3%BCn%C3%AF%20"
        "%E6%97%A5%E6%9C%AC%20%231%3F%2541.png"
    ]
    assert {"link", "iframe", "object", "base"}.isdisjoint(page.tags)
    html = (job.folder / "out/_removal/report.html").read_text(encoding="utf-8")
    assert "default-src 'none'; img-src data:" in html
    assert [picture["src"][:16] for card in page.cards for picture in card.pictures] == ["data:image/jpeg;"] * 3


def test_the_embedded_data_are_the_records(job: Job) -> None:
    found = [FoundObject("person", 0.9, (0, 0, 1, 1), 5), FoundObject("car", 0.5, (0, 0, 1, 1), 5)]
    cleaned = job.add_cleaned(HOSTILE, objects=found, ssim=0.25, seconds={"read": 0.5, "decode": 0.25})
    page = job.page([cleaned, record("z.png", "failed", stage="read", error="gone")])
    data = json.loads(page.scripts[0])
    assert data["columns"] == SCHEMA.names
    rows = [dict(zip(data["columns"], row, strict=True)) for row in data["rows"]]
    assert [row["key"] for row in rows] == ["z.png", HOSTILE]
    assert (rows[1]["objects"], rows[1]["ssim"], rows[1]["seconds"]) == (2, 0.25, 0.75)
    assert rows[1]["finished_at"] == "2026-01-02T12:00:00.000+00:00"
    assert (rows[0]["ssim"], rows[0]["objects"], rows[0]["seconds"]) == (None, None, None)
    assert "1 person (0.90), 1 car (0.50)" in page.card(HOSTILE).text


def test_what_json_cannot_say_is_null() -> None:
    assert sortable("ssim", float("nan")) is None
    assert sortable("psnr", float("inf")) is None
    assert sortable("psnr", 30.0) == 30.0


def test_failures_are_listed_with_stage_and_reason_and_notes_are_shown(job: Job) -> None:
    records = [
        record("plain.jpg", note="the mask would cover 71 %"),
        record("bad.jpg", "failed", stage="decode", error="The JPEG is cut off."),
    ]
    page = job.page(records)
    assert page.cards[0].classes == ["card", "failed", "bare"]
    assert "failed at decode" in page.cards[0].text
    assert "The JPEG is cut off." in page.cards[0].text
    assert page.cards[0].pictures == []
    assert "the mask would cover 71 %" in page.cards[1].text


def test_worst_images_are_chosen_and_failures_are_never_left_out(job: Job) -> None:
    records = [
        record("u1", "unchanged"),
        record("u2", "unchanged", note="something"),
        record("c1", "cleaned", residual_objects=0, seam=1.0, ssim=0.9),
        record("c2", "cleaned", residual_objects=0, seam=1.0, ssim=0.1),
        record("c3", "cleaned", residual_objects=0, seam=3.0, ssim=0.9),
        record("c4", "cleaned", residual_objects=2, seam=0.5, ssim=0.9),
        record("c5", "cleaned"),
        record("c6", "cleaned", residual_objects=0, seam=1.0, likeness=0.5),
        record("c7", "cleaned", residual_objects=0, seam=0.9, likeness=-0.5),
        record("f2", "failed", stage="read", error="gone"),
        record("f1", "failed", stage="read", error="gone"),
    ]
    with RecordDatabase([to_table(records)]) as database:
        rows = select(database, 99)
        assert [row["key"] for row in rows] == ["f1", "f2", "c4", "c7", "c6", "c3", "c2", "c1", "c5", "u2", "u1"]
        assert [row["key"] for row in select(database, 2)] == ["f1", "f2", "c4", "c7"]
        assert [row["key"] for row in select(database, 1, max_failed=1)] == ["f1", "c4"]
    page = job.page(records, max_images=2)
    assert len(page.cards) == 4
    assert "7 images not shown" in page.text
    assert "left out" not in job.page(records).text
    assert len(job.page(records, max_images=0).cards) == 2


def test_totals_and_statistics(job: Job) -> None:
    found = [FoundObject("person", 0.9, (0, 0, 1, 1), 5)] * 3 + [FoundObject("car", 0.5, (0, 0, 1, 1), 5)]
    records = [
        record("a", "cleaned", objects=found, ssim=0.1, psnr=20.0),
        record("b", "cleaned", objects=found[:1], ssim=0.2),
        record("c", "cleaned", objects=found[:1], ssim=0.9),
        record("d", "failed", stage="read", error="gone"),
    ]
    records[2].run_id, records[2].config_hash = "run-2", "hash-2"
    records[3].finished_at = NOON + timedelta(days=1)
    with RecordDatabase([to_table(records)]) as database:
        by_label = {statistic.label: statistic for statistic in statistics_of(database)}
    ssim = by_label["SSIM"]
    assert (ssim.images, ssim.mean, ssim.median, ssim.lowest, ssim.highest) == (
        3,
        "0.4000",
        "0.2000",
        "0.1000",
        "0.9000",
    )
    assert (by_label["PSNR"].images, by_label["PSNR"].mean) == (1, "20.00 dB")
    assert "seam" not in by_label
    page = job.page(records)
    for words in (
        "4images",
        "3cleaned",
        "0unchanged",
        "1failed",
        "6objects removed",
        "person5",
        "car1",
        "run-13",
        "run-21",
    ):
        assert words in page.text
    assert "2026-01-02 12:00 to 2026-01-03 12:00 UTC" in page.text
    assert "2 different configs" in page.warnings[0]
    assert '"limit": 12345' in page.text


def test_held_images_say_why_and_what_was_tried(job: Job) -> None:
    held = job.add_cleaned("h.png", status="held", held_for=["seam <= 3", "psnr >= 20"], retries=2, retry_seconds=1.5)
    (job.folder / "out" / "h.png").unlink()  # accept.instead=nothing
    held.output_size = None
    passed = job.add_cleaned("p.png", retries=1, retry_kept=0, retry_seconds=0.5)
    page = job.page(
        [held, passed, job.add_cleaned("c.png"), record("x", "held", held_for=["seam <= 3"], output_size=1)]
    )
    for words in ("2held for seam <= 3", "1held for psnr >= 20", "2tried again, 1 with success"):
        assert words in page.text
    assert "held for seam <= 3, psnr >= 20" in page.card("h.png").text
    assert page.card("h.png").links == []
    assert "result of retry.0" in page.card("p.png").text
    assert "result of" not in page.card("h.png").text
    assert "0.50 s" in page.card("p.png").text
    assert "time of retries" not in page.card("c.png").text


def test_an_input_that_cannot_be_read_is_done_without(job: Job) -> None:
    given = job.add_cleaned("a.png")
    shutil.rmtree(job.folder / "in")
    page = job.page([given])
    (warning,) = page.warnings
    assert warning.startswith("The original images are not shown: ")
    assert str(job.folder / "in") in warning
    assert [picture["alt"] for picture in page.cards[0].pictures] == ["mask: a.png", "after: a.png"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("{", "cannot be read"),
        ("[1]", "is not the settings file of a removal job"),
        ("{}", "The input is unknown; give it with --input"),
        ('{"input": "nope://x"}', "The original images are not shown"),
        ('{"input": "IN", "s3": {"endpiont": 1}}', "endpiont"),
    ],
)
def test_a_broken_job_file_is_told_and_does_not_stop_the_report(job: Job, content: str | None, words: str) -> None:
    path = job.folder / "out/_removal/job.json"
    path.unlink() if content is None else path.write_text(content.replace("IN", str(job.folder / "in")))
    given = job.add_cleaned("a.png")
    page = job.page([given])
    assert any(words in warning for warning in page.warnings)
    assert len(page.cards[0].pictures) == 2
    assert len(job.page([given], source=job.source).cards[0].pictures) == 3


def test_pictures_that_cannot_be_shown_say_why(job: Job) -> None:
    records = [
        job.add_cleaned(f"{name}.png") for name in ("changed", "corrupt", "gone", "no mask", "odd mask", "empty mask")
    ]
    job.put("in", "changed.png", png(np.zeros((5, 5, 3), np.uint8)))
    records[1].output_size = job.put("out", "corrupt.png", b"\x89PNG\r\n\x1a\n broken")
    (job.folder / "in/gone.png").unlink()
    (job.folder / "out/_removal/masks/no mask.png.png").unlink()
    job.put("out", "_removal/masks/odd mask.png.png", b"no image")
    job.put("out", "_removal/masks/empty mask.png.png", b"")
    page = job.page(records)
    assert [len(card.pictures) for card in page.cards] == [2] * 6
    assert "the file is another one than when the record was made" in page.card("changed.png").text
    assert "PNG" in page.card("corrupt.png").text
    assert "gone.png' no longer exists" in page.card("gone.png").text
    assert "no mask.png.png' no longer exists" in page.card("no mask.png").text
    for name in ("odd mask", "empty mask"):
        assert f"_removal/masks/{name}.png.png is not an image" in page.card(f"{name}.png").text


def test_an_unchanged_image_is_shown_once_from_the_output(job: Job) -> None:
    given = record("same.png", output_size=job.put("out", "same.png", png(np.zeros((1000, 10, 3), np.uint8))))
    (card,) = job.page([given]).cards
    assert [picture["alt"] for picture in card.pictures] == ["unchanged: same.png"]
    assert thumbnail(card.pictures[0]).shape == (320, 3, 3)


def test_dry_run_shows_masks_and_no_result(job: Job) -> None:
    given = job.add_cleaned("a.png")
    (job.folder / "out/a.png").unlink()
    (job.folder / "out/_removal/dry_run/masks").mkdir(parents=True)
    (job.folder / "out/_removal/masks/a.png.png").rename(job.folder / "out/_removal/dry_run/masks/a.png.png")
    (job.folder / "out/_removal/job.json").rename(job.folder / "out/_removal/dry_run/job.json")
    where = write_report(job.output, records=[to_table([given])], dry_run=True)
    assert where.endswith("/_removal/dry_run/report.html")
    page = Page(Path(where).read_text(encoding="utf-8"))
    assert [picture["alt"] for picture in page.cards[0].pictures] == ["before: a.png", "mask: a.png"]
    assert "would be cleaned" in page.text
    assert page.cards[0].links == []


def test_command_line(job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = to_table([job.add_cleaned("a.png"), record("f.png", "failed", stage="read", error="gone")])
    (job.folder / "out/_removal/records").mkdir()
    pq.write_table(records, job.folder / "out/_removal/records/run.parquet")
    out = str(job.folder / "out")
    assert main([out]) == 0
    assert capsys.readouterr().out == f"report: {out}/_removal/report.html\n"
    assert len(Page((job.folder / "out/_removal/report.html").read_text()).cards) == 2

    (job.folder / "out/_removal/job.json").unlink()
    assert main([out, "--input", str(job.folder / "in"), "--max-images", "1", "-o", str(tmp_path / "r.html")]) == 0
    page = Page((tmp_path / "r.html").read_text())
    assert len(page.cards[1].pictures) == 3
    assert page.cards[1].links == []  # from elsewhere they would lead nowhere

    assert main([out, "-o", str(tmp_path / "nowhere" / "r.html")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main([str(tmp_path / "missing")]) == 2
    assert main([out, "--dry-run"]) == 2
    assert "holds no records of a dry run" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([out, "--max-images", "-1"])


def test_no_records_is_an_error(job: Job) -> None:
    with pytest.raises(ConfigError, match="holds no records of a removal job"):
        write_report(job.output, records=[pa.Table.from_pylist([], schema=SCHEMA)])


def test_the_same_records_give_the_same_page(job: Job) -> None:
    records = to_table([job.add_cleaned(f"{index}.png") for index in range(5)])
    pages = [Path(write_report(job.output, records=[records])).read_text() for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium to run the page's script")
@pytest.mark.parametrize(
    ("fragment", "keys"),
    [
        ("", ["f.png", "c2.png", "c3.png", "c1.png", HOSTILE]),
        ("sort=ssim&dir=desc", ["c1.png", "c3.png", "f.png", "c2.png", HOSTILE]),
        ("sort=ssim&dir=asc&status=cleaned&q=C", ["c3.png", "c1.png", "c2.png"]),
        ("sort=toString&status=nonsense&q=SCRIPT", [HOSTILE]),
    ],
)
def test_sort_and_filter_in_a_browser(job: Job, fragment: str, keys: list[str]) -> None:
    """The address decides order and choice; null comes last in both directions; ties stay in the page's order."""
    records = [
        job.add_cleaned("c1.png", ssim=0.9),
        job.add_cleaned("c2.png", seam=4.0),
        job.add_cleaned("c3.png", ssim=0.5),
        record(HOSTILE),
        record("f.png", "failed", stage="read", error="gone"),
    ]
    path = Path(write_report(job.output, records=[to_table(records)]))
    assert CHROMIUM is not None
    profile = job.folder / "profile"
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    run = subprocess.run(
        [
            CHROMIUM,
            *flags.split(),
            "--disable-component-update",
            f"--user-data-dir={profile}",
            "--dump-dom",
            f"{path.as_uri()}#{fragment}",
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    page = Page(run.stdout.decode())
    shown = [card for card in page.cards if not card.hidden]
    assert [card.key for card in shown] == keys
    assert f"{len(keys)} of 5" in page.text


def test_a_report_of_many_records_needs_little_memory(tmp_path: Path) -> None:
    """Peak memory of 300,000 records beyond that of 3,000, which both hold the imports and the pages."""
    code = """
import resource, sys
import pyarrow as pa
from datetime import UTC, datetime
from inpaint_core.removal.record import FoundObject, Record, to_table
from inpaint_core.removal.report.write import write_report
from inpaint_core.storage import open_storage

found = [FoundObject("person", 0.5, (0, 0, 9, 9), 81), FoundObject("car", 0.5, (0, 0, 9, 9), 81)]
times = {"read": 0.1, "decode": 0.1}
rows = [
    Record("", 9, "etag", "run", "hash", datetime(2026, 1, 1, tzinfo=UTC), "failed" if i % 50 == 0 else "cleaned",
           objects=found, seam=i / 1000, ssim=i / 1000, mask_fraction=0.1, seconds=times, error="x" * 80)
    for i in range(1000)
]
part = to_table(rows)

def tables(count):
    for start in range(0, count, len(part)):
        keys = pa.array([f"folder/of/images/{start + i:09d}.jpg" for i in range(len(part))])
        yield part.set_column(0, part.schema.field("key"), keys)

output = open_storage(sys.argv[1])
peaks = []
for count in (3_000, 300_000):
    write_report(output, records=tables(count), max_images=0)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print((peaks[1] - peaks[0]) // 1024)
"""
    (tmp_path / "out/_removal").mkdir(parents=True)
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 200  # MB
    page = Page((tmp_path / "out/_removal/report.html").read_text(encoding="utf-8"))
    for words in (
        "300,000images",
        "6,000failed",
        "588,000objects removed",
        "person294,000",
        "298,000 images not shown",
    ):
        assert words in page.text
    assert len(page.cards) == 2_000
