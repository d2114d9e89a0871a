"""The server over real connections: lists, pictures, decisions, fills; and what it refuses."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from inpaint_core.removal.catalogue.decisions import DecisionReader, latest
from inpaint_core.removal.review.server import Server
from tests.removal.review.finished_job import (
    LAYOUT,
    Answer,
    FinishedJob,
    drawn_mask,
    finished_job,
    plain,
    request,
    served,
    street,
)
from tests.samples import decoded

HOSTILE = "a/<script>alert('1')</script> & \"q\" 'n' ünï 日本 #1?%41.png"


@dataclass
class Reviewed:
    job: FinishedJob
    server: Server
    folder: Path

    def get(self, path: str, **headers: str) -> Answer:
        return request(self.server, path, **headers)

    def picture(self, kind: str, key: str, **parts: str) -> Answer:
        more = "".join(f"&{name}={value}" for name, value in parts.items())
        return self.get(f"picture?kind={kind}&key={quote(key, safe='')}{more}")

    def decide(self, **content: Any) -> Answer:
        """Decide; unless `seen` is given, with the last decision seen."""
        if isinstance(content.get("key"), str) and "seen" not in content:
            found = self.get(f"api/record?key={quote(content['key'], safe='')}")
            content["seen"] = found.json["decision_id"] if found.status == 200 else None
        data = json.dumps(content).encode()
        return request(self.server, "api/decide", data, content_type="application/json")

    def rows(self, query: str = "") -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(f"api/records?{query}").json["rows"]
        return rows


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reviewed]:
    folder = tmp_path_factory.mktemp("review")
    images = {
        "a.png": street(0),
        "b.jpg": street(1, format_="JPEG"),
        "c.tif": street(2, format_="TIFF"),
        "plain.png": plain(3),
        "broken.png": b"\x89PNG\r\n\x1a\n broken",
        HOSTILE: street(4),
    }
    job = finished_job(folder, images)
    (folder / "secret.txt").write_text("secret")
    with served(job.review()) as server:
        yield Reviewed(job, server, folder)


def test_about(reviewed: Reviewed) -> None:
    about = reviewed.get("api/about").json
    assert about["statuses"] == {"cleaned": 4, "unchanged": 1, "failed": 1, "held": 0}
    assert about["labels"] == {"paint": 4}
    assert (about["reviewer"], about["can_fill"]) == ("Anna", True)
    assert {"residual_objects", "seam", "mask_fraction", "psnr"} <= about["columns"].keys()


def test_lists_are_sorted_and_filtered(reviewed: Reviewed) -> None:
    worst = reviewed.rows()
    assert [row["status"] for row in worst] == ["cleaned"] * 4 + ["unchanged", "failed"]
    seams = [row["seam"] for row in worst[:4]]
    assert seams == sorted(seams, reverse=True)
    assert [row["key"] for row in reviewed.rows("sort=key&dir=asc")] == sorted(reviewed.job.records())
    by_seam = [row["seam"] for row in reviewed.rows("sort=seam&dir=asc")]
    assert by_seam == [*sorted(seams), None, None]
    assert [row["key"] for row in reviewed.rows("status=failed")] == ["broken.png"]
    assert {row["key"] for row in reviewed.rows("label=paint&q=%2EJ")} == {"b.jpg"}
    assert [row["key"] for row in reviewed.rows(f"q={quote('<script>')}")] == [HOSTILE]
    answer = reviewed.get("api/records?offset=4&limit=1").json
    assert ([row["key"] for row in answer["rows"]], answer["total"]) == (["plain.png"], 6)


@pytest.mark.parametrize("query", ["sort=nonsense", "status=x'", "decided=maybe", "offset=-1", "limit=1e3", "until=x"])
def test_what_no_list_can_be_of_is_refused(reviewed: Reviewed, query: str) -> None:
    answer = reviewed.get(f"api/records?{query}")
    assert answer.status == 400
    assert answer.json["error"]


def test_pictures_of_every_kind(reviewed: Reviewed) -> None:
    for key in ("a.png", "b.jpg", HOSTILE):
        assert reviewed.picture("before", key).data == reviewed.job.source.read(key)
        assert reviewed.picture("after", key).data == reviewed.job.output.read(key)
    assert reviewed.picture("before", "b.jpg").headers["content-type"] == "image/jpeg"
    tiff = reviewed.picture("after", "c.tif")
    assert tiff.headers["content-type"] == "image/png"  # no browser shows TIFF
    assert np.array_equal(decoded(tiff.data), decoded(reviewed.job.output.read("c.tif")))
    mask = np.asarray(Image.open(BytesIO(reviewed.picture("mask", "a.png").data)))
    assert mask[70, 80]
    assert not mask[20, 20]
    thumbnail = Image.open(BytesIO(reviewed.picture("thumbnail", "a.png").data))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (200, 150))
    broken = reviewed.picture("thumbnail", "broken.png")
    assert broken.status == 422
    assert reviewed.picture("mask", "plain.png").status == 404


def test_decisions_are_stored_at_once_and_taken_back(reviewed: Reviewed) -> None:
    def stored() -> str | None:
        found = latest(DecisionReader(reviewed.job.output, LAYOUT).new()).get("a.png")
        return None if found is None else found.decision

    first = reviewed.decide(key="a.png", decision="accept").json
    assert (first["decision"], first["decided_by"], stored()) == ("accept", "Anna", "accept")
    stale = reviewed.decide(key="a.png", decision="restore", seen=None)
    assert stale.status == 409
    assert stale.json["error"].startswith("Anna has decided in the meantime: accept.")
    second = reviewed.decide(key="a.png", decision="restore").json
    assert (second["decision"], stored()) == ("restore", "restore")
    assert "a.png" not in [row["key"] for row in reviewed.rows("decided=no")]
    assert [row["key"] for row in reviewed.rows("decided=restore")] == ["a.png"]
    back = reviewed.decide(key="a.png", decision="none").json
    assert (back["decision"], stored()) == (None, "none")
    assert reviewed.get("api/changes?since=0").json["counts"]["decided"] == 0
    (file,) = (reviewed.folder / "out/_removal/decisions").glob("*.parquet")
    assert pq.read_table(file)["decision"].to_pylist() == ["accept", "restore", "none"]


def test_the_pages_of_a_list_fit_together_while_decisions_are_made(reviewed: Reviewed) -> None:
    first = reviewed.get("api/records?decided=no&limit=2").json
    assert reviewed.decide(key=first["rows"][0]["key"], decision="restore").status == 200
    second = reviewed.get(f"api/records?decided=no&limit=9&offset=2&until={first['until']}").json
    assert len({row["key"] for row in first["rows"] + second["rows"]}) == second["total"] == 6
    assert reviewed.get("api/records?decided=no").json["total"] == 5
    assert reviewed.decide(key=first["rows"][0]["key"], decision="none").status == 200


def test_decisions_that_an_image_does_not_allow(reviewed: Reviewed) -> None:
    for key, decision in (("broken.png", "accept"), ("broken.png", "hold"), ("plain.png", "hold")):
        assert reviewed.decide(key=key, decision=decision).status == 409
    assert reviewed.decide(key="a.png", decision="redo", fill="0" * 32).status == 404
    assert reviewed.decide(key="a.png", decision="redo", mask="../../../secret").status == 404
    for content in ({"key": "a.png", "decision": "drop"}, {"decision": "accept"}, {"key": 1, "decision": "accept"}):
        assert reviewed.decide(**content).status == 400
    for data in (b"[]", b"{", b"\xff", b"[" * 100_000):
        assert request(reviewed.server, "api/decide", data, content_type="application/json").status == 400
    assert request(reviewed.server, "api/decide", b"{}", content_type="text/plain").status == 415


def test_a_drawn_mask_is_filled_shown_and_kept(reviewed: Reviewed) -> None:
    filled = request(reviewed.server, "api/fill?key=plain.png", drawn_mask(), content_type="image/png")
    fill = filled.json["fill"]
    picture = decoded(reviewed.picture("fill", "plain.png", fill=fill).data)
    changed = (picture != decoded(reviewed.job.source.read("plain.png"))).any(axis=2)
    assert changed[20:60, 10:40].mean() > 0.9
    assert not changed[:, 41:].any()
    assert not (reviewed.folder / "out/_removal/decisions/masks" / f"{fill}.png").exists()
    assert reviewed.decide(key="a.png", decision="redo", fill=fill).status == 404  # of another image
    made = reviewed.decide(key="plain.png", decision="redo", fill=fill).json
    assert made["mask"] == fill
    mask = np.asarray(Image.open(reviewed.folder / "out/_removal/decisions/masks" / f"{fill}.png"))
    assert mask.sum() == 30 * 40
    assert (
        reviewed.picture("drawn", "plain.png").data
        == (reviewed.folder / "out/_removal/decisions/masks" / f"{fill}.png").read_bytes()
    )
    assert reviewed.decide(key="plain.png", decision="none").status == 200


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (drawn_mask(100, 100), "100 x 100 pixels and the image 200 x 150"),
        (drawn_mask(box=(0, 0, 0, 0)), "the mask is empty"),
        (b"no PNG", "not a PNG"),
        (b"", "not a PNG"),
    ],
)
def test_masks_that_do_not_fit(reviewed: Reviewed, data: bytes, words: str) -> None:
    answer = request(reviewed.server, "api/fill?key=a.png", data, content_type="image/png")
    assert (answer.status, words in answer.json["error"]) == (422, True)


@pytest.mark.parametrize("token", ["", "wrong", "x" * 43, "%00", "..", "é"])
def test_without_the_token_nothing_is_told(reviewed: Reviewed, token: str) -> None:
    for path in ("", "api/about", "picture?kind=before&key=a.png", "main.js"):
        answer = request(reviewed.server, f"/{quote(token, safe='%')}/{path}", raw=True)
        assert answer.status == 403
        assert b"token" in answer.data
    for path in ("/", "/favicon.ico", "//", f"/{reviewed.server.token}", f"/x/../{reviewed.server.token}/"):
        assert request(reviewed.server, path, raw=True).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:PORT", "", "[::1]:PORT"]
)
def test_another_host_is_refused(reviewed: Reviewed, host: str) -> None:
    answer = reviewed.get("api/about", host=host.replace("PORT", str(reviewed.server.port)))
    assert (answer.status, b"Wrong Host header" in answer.data) == (403, True)
    assert reviewed.get("api/about", host=f"localhost:{reviewed.server.port}").status == 200


def test_another_site_is_refused(reviewed: Reviewed) -> None:
    data = json.dumps({"key": "a.png", "decision": "accept"}).encode()
    for headers in ({"origin": "http://evil.example"}, {"origin": "null"}, {"sec_fetch_site": "cross-site"}):
        assert request(reviewed.server, "api/decide", data, content_type="application/json", **headers).status == 403
    assert request(reviewed.server, "api/decide", method="OPTIONS", origin="http://evil.example").status == 403
    answer = reviewed.get("")
    assert "access-control-allow-origin" not in answer.headers
    assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "key",
    [
        "../secret.txt",
        "../../secret.txt",
        "/etc/passwd",
        "a.png/../../secret.txt",
        "_removal/job.json",
        "a.png\0",
        "..%2fsecret.txt",
        "",
    ],
)
def test_keys_without_a_record_lead_nowhere(reviewed: Reviewed, key: str) -> None:
    for kind in ("before", "after", "mask", "thumbnail", "drawn", "fill"):
        answer = reviewed.picture(kind, key)
        assert answer.status == 404
        assert b"secret" not in answer.data
    assert reviewed.decide(key=key, decision="accept").status == 404
    for path in (f"../{quote(key)}", quote(f"../{key}", safe=""), f"page/../../{quote(key)}"):
        assert reviewed.get(path).status in (403, 404)


def test_it_listens_on_the_loopback_only(reviewed: Reviewed) -> None:
    assert reviewed.server._socket.getsockname()[0] == "127.0.0.1"
    assert reviewed.server.url.startswith("http://127.0.0.1:")
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", reviewed.server.port))
