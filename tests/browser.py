"""A real headless Chromium for tests, spoken to over its debugging pipe (Chrome DevTools Protocol): no network, no packages.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
    "--disable-component-update --disable-extensions --mute-audio --disable-dev-shm-usage --remote-debugging-pipe"
)
_KEYS = {"?": "Slash", "+": "Equal", "-": "Minus", "Escape": "Escape"}


class Browser:
    """A browser process with a fresh profile.

    Args:
        folder: for the profile.
    """

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        to_browser, self._to = os.pipe()
        self._from, from_browser = os.pipe()

        def at_its_places() -> None:  # the pipe is at 3 and 4
            spare = [os.dup(to_browser), os.dup(from_browser)]
            spare = [os.dup2(descriptor, 10 + index) for index, descriptor in enumerate(spare)]
            os.dup2(spare[0], 3)
            os.dup2(spare[1], 4)

        self._process = subprocess.Popen(
            [CHROMIUM, *_FLAGS.split(), f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=at_its_places,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol; returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        os.write(self._to, json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            if "method" in answer:
                self.events.append(answer)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, url: str, *, width: int = 1280, height: int = 860, dark: bool = False) -> Tab:
        """A tab in a context of its own, as another person's browser."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, session)
        for domain in ("Page", "Runtime", "Log"):
            tab.call(f"{domain}.enable")
        tab.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.call("Emulation.setEmulatedMedia", features=[scheme])
        tab.call("Page.navigate", url=url)
        return tab

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._from, 2**20)
            assert part, "the browser has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


class Tab:
    """A page that is open."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **arguments)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript gives; an error in it fails the test."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 30.0) -> Any:
        """The value of an expression once it is true."""
        end = time.monotonic() + seconds
        while not (value := self.value(f"(() => {{ try {{ return {expression}; }} catch {{ return null; }} }})()")):
            assert time.monotonic() < end, f"{expression} is not true; the page says: {self.text('main')}"
            time.sleep(0.02)
        return value

    def text(self, selector: str) -> str:
        found: str = self.value(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")
        return found

    def box(self, selector: str) -> Mapping[str, float]:
        """Place of an element in the window: left, top, width, height."""
        found: Mapping[str, float] = self.value(
            f"(({{left, top, width, height}}) => ({{left, top, width, height}}))"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        return found

    def press(self, key: str) -> None:
        """Press a key and let go of it."""
        letter = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=_KEYS.get(key, f"Key{key.upper()}"), **letter)

    def drag(self, points: list[tuple[float, float]]) -> None:
        """Press the mouse at the first point, move it to the others, and let go."""
        self._mouse("mouseMoved", points[0], 0)
        self._mouse("mousePressed", points[0], 1)
        for point in points[1:]:
            self._mouse("mouseMoved", point, 1)
        self._mouse("mouseReleased", points[-1], 0)

    def click(self, selector: str) -> None:
        box = self.box(selector)
        self.drag([(box["left"] + box["width"] / 2, box["top"] + box["height"] / 2)])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def complaints(self) -> list[str]:
        """Errors that the page has logged: exceptions, blocked content."""
        found = []
        for event in self._browser.events:
            if event.get("sessionId") == self._session:
                if event["method"] == "Runtime.exceptionThrown":
                    found.append(str(event["params"]["exceptionDetails"]))
                elif event["method"] == "Log.entryAdded" and event["params"]["entry"]["level"] == "error":
                    found.append(f"{event['params']['entry']['text']} {event['params']['entry'].get('url', '')}")
        return found

    def _mouse(self, kind: str, point: tuple[float, float], buttons: int) -> None:
        button = "none" if kind == "mouseMoved" and not buttons else "left"
        self.call(
            "Input.dispatchMouseEvent", type=kind, x=point[0], y=point[1], button=button, buttons=buttons, clickCount=1
        )
