"""A finished removal job on a local folder, and the server of its review, for tests."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inpaint_core.config import to_tree
from inpaint_core.detection.config import MaskFilesConfig
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.removal.acceptance import AcceptConfig
from inpaint_core.removal.catalogue.entries import RunId, as_entries
from inpaint_core.removal.catalogue.journal import Journal
from inpaint_core.removal.catalogue.layout import Layout
from inpaint_core.removal.catalogue.ledger import merge_journal, read_records
from inpaint_core.removal.catalogue.listing import list_images
from inpaint_core.removal.config import MaskConfig, MeasureConfig, RemoveConfig
from inpaint_core.removal.remover import ObjectRemover
from inpaint_core.removal.review.server import Server
from inpaint_core.removal.review.session import Review
from inpaint_core.removal.worker import Worker
from inpaint_core.storage import S3Options, Storage, open_storage
from inpaint_core.storage.s3_options import DEFAULT_S3
from tests.samples import PaintDetector, encoded, painted, photograph

LAYOUT = Layout.of(dry_run=False)


@dataclass
class FinishedJob:
    """Input, output and settings of a job that has run."""

    source: Storage
    output: Storage
    config: RemoveConfig

    def records(self) -> dict[str, dict[str, Any]]:
        return {row["key"]: row for row in read_records(self.output).to_pylist()}

    def run(self, run_id: str = "run1", config_hash: str = "hash1", keys: set[str] | None = None) -> None:
        """Process all images, or some, as a run of the job does."""
        model = self.config.inpainter.build(None, device=torch.device("cpu"), autocast=False)
        remover = ObjectRemover(self.config, PaintDetector(), Inpainter(model, self.config.fill))
        worker = Worker(remover, self.source, self.output, RunId(run_id, config_hash))
        entries = as_entries(list_images(self.source, self.output, self.config.listing, None).manifest.read())
        entries = [entry for entry in entries if keys is None or entry.key in keys]
        for _ in worker.process(worker.batches(entries), Journal(worker.target, worker.journal_key(entries, "1"))):
            pass
        merge_journal(self.output, LAYOUT, run_id)

    def review(self, name: str = "Anna") -> Review:
        return Review(self.output, self.source, self.config, name, seconds_between_looks=0.2)


def finished_job(
    folder: Path,
    images: Mapping[str, bytes],
    places: tuple[Storage, Storage] | None = None,
    s3: S3Options = DEFAULT_S3,
    accept: AcceptConfig | None = None,
) -> FinishedJob:
    """Run a job over images, given by key, whose objects are painted (`tests.samples.painted`).

    `places` are the input and the output; None: folders.
    """
    source, output = places or (
        open_storage(str(folder / "in")),
        open_storage(str(folder / "out"), temporary_folder="_removal/tmp"),
    )
    config = RemoveConfig(
        source.uri,
        output.uri,
        s3=s3,
        accept=accept or AcceptConfig(),
        inpainter=OpencvConfig(),
        detector=MaskFilesConfig(root=str(folder)),
        mask=MaskConfig(grow_min=2),
        measure=MeasureConfig(shifted_hole=False),
    )
    for key, data in images.items():
        source.write(key, data)
    job = FinishedJob(source, output, config)
    job.run()
    tree = to_tree(config)
    description = {"input": source.uri, "source": source.place, "output": output.uri, "s3": tree["s3"], "config": tree}
    output.write(LAYOUT.job, json.dumps(description).encode())
    return job


def street(seed: int = 0, size: tuple[int, int] = (200, 150), format_: str = "PNG") -> bytes:
    """A photograph with one painted object, columns 60 to 100, rows 50 to 90."""
    return encoded(painted(photograph(size, seed=seed), (60, 50, 100, 90)), format_)


def plain(seed: int = 0, size: tuple[int, int] = (200, 150)) -> bytes:
    """A photograph without objects."""
    return encoded(photograph(size, seed=seed))


def drawn_mask(width: int = 200, height: int = 150, box: tuple[int, int, int, int] = (10, 20, 40, 60)) -> bytes:
    """A mask as a browser draws it: RGBA, opaque in the box (x0, y0, x1, y1)."""
    pixels = np.zeros((height, width, 4), np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1] = (230, 30, 60, 255)
    return encoded(pixels)


@contextmanager
def served(review: Review) -> Iterator[Server]:
    """The server of a review, in a thread."""
    server = Server(review)
    thread = threading.Thread(target=server.run, args=(lambda _: None,))
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(20)
        review.close()
        assert not thread.is_alive()


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    data: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.data)


def request(
    server: Server, path: str, data: bytes | None = None, *, raw: bool = False, method: str = "", **headers: str
) -> Answer:
    """A request of the server; `raw`: the path as it is, without the token before it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        whole = path if raw else f"/{server.token}/{path}"
        connection.request(method or ("GET" if data is None else "POST"), whole, data, names)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
