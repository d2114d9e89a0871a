"""The page in a real headless Chromium: keys, slider, brush, undo, two reviewers, hostile text, windows of all sizes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from inpaint_core.removal.catalogue.decisions import DecisionReader, latest
from inpaint_core.storage import open_storage
from tests.browser import CHROMIUM, Browser, Tab
from tests.removal.review.finished_job import LAYOUT, FinishedJob, finished_job, plain, served, street
from tests.samples import decoded

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

HOSTILE = "z/<img src=x onerror=window.hacked=1><script>window.hacked=1</script>.png"
READY = "!document.querySelector('#stage').classList.contains('empty')"
FILLED = "document.querySelector('#message').textContent.startsWith('Filled.')"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedJob:
    """Four images with an object and one without; nobody has decided."""
    images = {f"{number}.png": street(number) for number in range(4)} | {"plain.png": plain(9)}
    return finished_job(tmp_path_factory.mktemp("job"), images)


@pytest.fixture
def job(finished: FinishedJob, tmp_path: Path) -> FinishedJob:
    shutil.copytree(finished.output.uri, tmp_path / "out")
    return replace(finished, output=open_storage(str(tmp_path / "out")))


@pytest.fixture(scope="module")
def address(finished: FinishedJob) -> Iterator[str]:
    with served(finished.review()) as server:
        yield server.url


@pytest.fixture
def tab(job: FinishedJob, browser: Browser) -> Iterator[Tab]:
    with served(job.review()) as server:
        tab = browser.open(server.url)
        tab.wait(READY)
        yield tab
        assert tab.complaints() == []


def decisions(job: FinishedJob) -> dict[str, tuple[str, str]]:
    found = latest(DecisionReader(job.output, LAYOUT).new())
    return {key: (row.decision, row.decided_by) for key, row in found.items()}


def key_after(tab: Tab, key: str, before: str) -> str:
    """Press a key, and wait until another image is shown; its key."""
    tab.press(key)
    shown: str = tab.wait(
        f"{READY} && (text => text !== {before!r} && text)(document.querySelector('#key').textContent)"
    )
    return shown


def shown_keys(tab: Tab) -> list[str]:
    keys: list[str] = tab.value("[...document.querySelectorAll('#list bdi')].map(name => name.textContent)")
    return keys


def test_keys_move_and_decide(tab: Tab, job: FinishedJob) -> None:
    keys = shown_keys(tab)
    assert len(keys) == 5
    assert tab.text("#key") == keys[0]
    assert key_after(tab, "j", keys[0]) == keys[1]
    assert key_after(tab, "k", keys[1]) == keys[0]
    for index, key in enumerate("arh"):
        assert key_after(tab, key, keys[index]) == keys[index + 1]
    assert decisions(job) == {keys[0]: ("accept", "Anna"), keys[1]: ("restore", "Anna"), keys[2]: ("hold", "Anna")}
    tab.wait("document.querySelector('#progress').textContent === '3 of 5 decided, Anna'")
    badges = "[...document.querySelectorAll('#list li')].map(item => item.querySelectorAll('.badge')[1]?.textContent)"
    assert tab.value(badges) == ["accepted", "restored", "held", None, None]
    tab.press("?")
    tab.wait("document.querySelector('#help').open")
    tab.press("a")  # not while the help is open
    tab.press("?")
    tab.wait("!document.querySelector('#help').open")
    assert len(decisions(job)) == 3


def test_undo_takes_decisions_back_one_by_one(tab: Tab, job: FinishedJob) -> None:
    first, second, third = shown_keys(tab)[:3]
    key_after(tab, "a", first)
    key_after(tab, "r", second)
    assert key_after(tab, "u", third) == second
    assert key_after(tab, "u", second) == first
    assert {key: decision for key, (decision, _) in decisions(job).items()} == {first: "none", second: "none"}
    tab.press("u")
    tab.wait("document.querySelector('#message').textContent === 'There is nothing to undo.'")


def test_filters_and_order(tab: Tab, job: FinishedJob) -> None:
    tab.click("#filters [name=q]")
    for letter in "plai":
        tab.press(letter)  # no decision: the keys go to the field
    tab.wait("document.querySelector('#count').textContent === '1 image in this list'")
    assert shown_keys(tab) == ["plain.png"]
    assert decisions(job) == {}
    choose = "(name, value) => { const field = document.querySelector(`#filters [name=${name}]`); field.value = value; field.dispatchEvent(new Event('change', {bubbles: true})); }"
    tab.value(f"({choose})('q', '')")
    tab.value(f"({choose})('sort', 'key')")
    tab.wait("document.querySelectorAll('#list li').length === 5")
    tab.wait("document.querySelector('#list bdi').textContent === 'plain.png'")  # descending
    tab.click("#direction")
    tab.wait("document.querySelector('#list bdi').textContent === '0.png'")
    tab.value(f"({choose})('status', 'unchanged')")
    tab.wait("document.querySelectorAll('#list li').length === 1")


def test_the_slider_divides_before_and_after(tab: Tab, job: FinishedJob, tmp_path: Path) -> None:
    frame = tab.box("#frame")
    assert frame["width"] / frame["height"] == pytest.approx(200 / 150, rel=1e-3)

    def colour_of_object() -> list[int]:
        """What the screen shows in the middle of the painted object."""
        tab.screenshot(tmp_path / "screen.png")
        picture = decoded((tmp_path / "screen.png").read_bytes())
        x, y = frame["left"] + frame["width"] * 80 / 200, frame["top"] + frame["height"] * 70 / 150
        return picture[int(y), int(x)].astype(int).tolist()

    def drag_to(share: float) -> None:
        y = frame["top"] + frame["height"] / 2
        tab.drag([(frame["left"] + frame["width"] / 2, y), (frame["left"] + frame["width"] * share, y)])
        tab.wait(f"Math.abs(document.querySelector('#slider').value - {1000 * share}) < 10")

    drag_to(0.9)
    assert colour_of_object() == [255, 0, 255]
    drag_to(0.1)
    expected = decoded(job.output.read(tab.text("#key")))[70, 80].astype(int)
    assert np.abs(np.array(colour_of_object()) - expected).max() < 40
    tab.press("z")
    tab.wait("document.querySelector('#frame').getBoundingClientRect().width === 200")


def stroke(tab: Tab, *points: tuple[float, float]) -> None:
    """Draw through points given in pixels of the image (200 x 150)."""
    box = tab.box("#frame")
    tab.drag([(box["left"] + x * box["width"] / 200, box["top"] + y * box["height"] / 150) for x, y in points])


def test_a_drawn_mask_is_filled_shown_and_then_taken(tab: Tab, job: FinishedJob) -> None:
    key = tab.text("#key")
    tab.press("m")
    tab.wait("!document.querySelector('#mask').hidden")
    before = int(tab.text("#size").split()[0])
    tab.press("+")
    tab.wait(f"parseInt(document.querySelector('#size').textContent) > {before}")
    tab.press("-")
    stroke(tab, (120, 120), (140, 120), (160, 120))
    tab.wait(FILLED)
    assert decisions(job) == {}  # shown first
    tab.press("f")
    tab.wait(f"document.querySelector('#key').textContent !== {key!r}")
    assert decisions(job) == {key: ("redo", "Anna")}
    mask_id = latest(DecisionReader(job.output, LAYOUT).new())[key].mask
    assert mask_id is not None
    mask = np.asarray(Image.open(BytesIO(job.output.read(LAYOUT.decision_mask(mask_id)))))
    assert mask.shape == (150, 200)
    assert mask[120, 117:163].all()  # the stroke
    assert mask[70, 80]  # and the mask of the job, to which it was added
    assert not mask[:40].any()
    assert mask[:, 180:].sum() == 0


def test_the_eraser_and_undo_of_strokes(tab: Tab, job: FinishedJob) -> None:
    key = tab.text("#key")
    alpha = "(([x, y]) => document.querySelector('#mask').getContext('2d').getImageData(x, y, 1, 1).data[3])"
    tab.press("m")
    stroke(tab, (120, 120), (160, 120))
    assert tab.value(f"{alpha}([140, 120])") == 255
    tab.press("e")
    tab.wait("document.querySelector('[data-does=eraser]').getAttribute('aria-pressed') === 'true'")
    stroke(tab, (140, 110), (140, 130))
    assert tab.value(f"{alpha}([140, 120])") == 0
    assert tab.value(f"{alpha}([120, 120])") == 255
    tab.press("u")
    tab.wait(f"{alpha}([140, 120]) === 255")
    tab.press("u")
    tab.wait(f"{alpha}([140, 120]) === 0 && {alpha}([80, 70]) === 255")  # the mask of the job is left
    assert (tab.text("#key"), decisions(job)) == (key, {})


def test_two_reviewers_do_not_overrule_each_other_by_accident(job: FinishedJob, browser: Browser) -> None:
    with served(job.review("Anna")) as first, served(job.review("Ben")) as second:
        anna, ben = browser.open(first.url), browser.open(second.url)
        for tab in (anna, ben):
            tab.wait(READY)
        key, other = shown_keys(anna)[:2]
        key_after(anna, "a", key)
        assert ben.text("#key") == key
        ben.press("r")
        ben.wait(
            "document.querySelector('#message.wrong').textContent.startsWith('Anna has decided in the meantime: accept.')"
        )
        assert decisions(job) == {key: ("accept", "Anna")}
        ben.wait("document.querySelector('#state').innerText.includes('by Anna')")
        assert key_after(ben, "r", key) == other  # now knowing it
        assert decisions(job) == {key: ("restore", "Ben")}
        anna.wait("document.querySelectorAll('#list li')[0].innerText.includes('restored')")  # by asking now and then
        anna.press("u")  # what Ben has decided since is not undone
        anna.wait(
            "document.querySelector('#message.wrong').textContent.startsWith('Ben has decided in the meantime: restore.')"
        )
        assert decisions(job) == {key: ("restore", "Ben")}


def test_scripts_in_keys_and_errors_are_text(tmp_path: Path, browser: Browser) -> None:
    job = finished_job(tmp_path, {HOSTILE.replace("/", "_"): b"<script>window.hacked=1</script>", "a.png": street()})
    with served(job.review("<b>Eve</b>")) as server:
        tab = browser.open(server.url)
        tab.wait(READY)
        tab.press("j")
        tab.wait("document.querySelector('#figures').innerText.includes('failed at decode')")
        assert tab.text("#key") == HOSTILE.replace("/", "_")
        assert "<b>Eve</b>" in tab.text("#progress")
        assert tab.value("window.hacked ?? null") is None
        assert tab.value("document.querySelectorAll('main script, aside script, aside [onerror], b b').length") == 0


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 800, 1600])
def test_nothing_is_cut_off_in_windows_of_any_width(address: str, browser: Browser, width: int, dark: bool) -> None:
    tab = browser.open(address, width=width, height=800, dark=dark)
    tab.wait(READY)
    assert tab.value("document.documentElement.scrollWidth <= innerWidth")
    assert tab.value("scrollY") == 0
    colour = tab.value("getComputedStyle(document.body).backgroundColor")
    assert colour == ("rgb(17, 20, 24)" if dark else "rgb(246, 247, 249)")
    assert tab.value(
        "[...document.querySelectorAll('button, select, input')].filter(e => e.offsetParent && !e.closest('dialog'))"
        ".every(e => e.getBoundingClientRect().right <= innerWidth + 1)"
    )
