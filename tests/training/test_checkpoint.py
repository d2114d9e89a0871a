"""What a run leaves behind, and files that are no such thing."""

import io
import json
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from inpaint_core.errors import ObjectError, StorageError, WeightsError
from inpaint_core.networks.spec import ContextEncoderSpec
from inpaint_core.networks.weights.generator_file import load_generator
from inpaint_core.networks.weights.generator_header import read_metadata
from inpaint_core.storage import Storage
from inpaint_core.training.checkpoint import LAST, load_state, save_judged, save_state
from inpaint_core.training.step import AdversarialStep
from tests.training.small import CPU, batch_of, config, copied, folder, photographs, same

HERE = torch.device("cpu")
STATE = {"networks": {"a": torch.arange(2000.0), "b": [torch.ones(3, dtype=torch.int64)]}, "epoch": 3, "best": None}


def test_a_state_comes_back(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    assert load_state(storage, HERE) is None
    save_state(storage, STATE)
    state = load_state(storage, HERE)
    assert state is not None
    assert torch.equal(state["networks"]["a"], STATE["networks"]["a"])  # type: ignore[index]
    assert state["networks"]["b"][0].dtype == torch.int64
    assert (state["epoch"], state["best"]) == (3, None)


def damaged() -> Iterator[tuple[str, bytes]]:
    whole = io.BytesIO()
    torch.save({"format": 2, **STATE}, whole)
    data = whole.getvalue()
    yield "empty", b""
    yield "half", data[: len(data) // 2]
    yield "one byte short", data[:-1]
    yield "an image", b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "text", b"hello"
    yield "an empty pickle", b"\x80\x02."
    yield "a short pickle", pickle.dumps({"format": 1}, protocol=2)[:9]
    rng = random.Random(0)
    for number in range(40):
        yield f"noise {number}", rng.randbytes(rng.randrange(1, 200))


def test_damaged_files_are_one_clear_error(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    for name, data in damaged():
        storage.write(LAST, data)
        with pytest.raises(WeightsError) as raised:
            load_state(storage, HERE)
        message = str(raised.value)
        assert f"{tmp_path}/last.pt" in message, name
        assert "give another output, or delete it" in message, name
        assert "\n" not in message, name
        assert len(message) < 400, name


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str, ...]]:
        return (open, ("/dev/null",))


@pytest.mark.parametrize("content", [{"format": 1, "epoch": 0}, {"epoch": 0}, [1, 2], torch.zeros(3)])
def test_a_file_of_another_version_is_refused(content: object, tmp_path: Path) -> None:
    storage = folder(tmp_path)
    with storage.open_write(LAST) as file:
        torch.save(content, file)
    with pytest.raises(WeightsError, match="was not written by this version's training"):
        load_state(storage, HERE)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    storage = folder(tmp_path)
    with storage.open_write(LAST) as file:
        torch.save({"format": 2, "evil": Evil()}, file)
    with pytest.raises(WeightsError, match="is not a checkpoint of a training run"):
        load_state(storage, HERE)


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_none(tmp_path: Path) -> None:
    (tmp_path / LAST).mkdir()
    with pytest.raises(StorageError, match=r"last\.pt.*give another output"):
        load_state(folder(tmp_path), HERE)


class FullStore:
    """A storage whose disk is full after so many bytes."""

    uri = "full"

    def __init__(self, room: int, error: Exception) -> None:
        self.room = room
        self.error = error

    @contextmanager
    def open_write(self, key: str) -> Iterator[BinaryIO]:
        yield _FullFile(self)


class _FullFile(io.RawIOBase, BinaryIO):  # type: ignore[misc]
    def __init__(self, store: FullStore) -> None:
        self._store = store

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._store.room -= len(data)
        if self._store.room < 0:
            raise self._store.error
        return len(data)


@pytest.mark.parametrize("room", [0, 700, 5000])
@pytest.mark.parametrize("error", [StorageError("there is no space left"), ObjectError("cannot write")])
def test_a_full_disk_is_told_as_such(room: int, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        save_state(FullStore(room, error), STATE)  # type: ignore[arg-type]


def test_a_write_that_fails_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = folder(tmp_path)
    save_state(storage, STATE)
    before = storage.read(LAST)

    def broken(state: object, file: BinaryIO) -> None:
        file.write(b"half a state")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(KeyboardInterrupt):
        save_state(storage, {"epoch": 4})
    assert storage.read(LAST) == before
    assert [found.key for found in storage.list()] == [LAST]


@pytest.mark.parametrize("output", ["center", "full"])
def test_a_judged_generator_is_loaded_from_its_file_alone(output: Any, tmp_path: Path) -> None:
    settings = config(network=ContextEncoderSpec(output=output, bottleneck=16, width=4))
    networks = AdversarialStep(settings, CPU, steps=10)
    masks = torch.zeros(4, 128, 128, dtype=torch.bool).numpy()
    masks[:, 20:60, 30:70] = True
    networks(batch_of(photographs(4), masks if output == "full" else None))
    storage: Storage = folder(tmp_path)
    save_judged(storage, "best.safetensors", networks.judged, settings, {"epoch": 7, "table_l1": 0.25})
    data = storage.read("best.safetensors")
    generator, spec = load_generator(data)
    assert spec == settings.network
    assert same(copied(generator), {name: value.contiguous() for name, value in copied(networks.judged).items()})
    metadata = read_metadata(data)
    assert json.loads(metadata["inpaint_core.training"]) == {"epoch": 7, "table_l1": 0.25}
    kept = json.loads(metadata["inpaint_core.config"])
    assert kept["network"] == {
        "kind": "context_encoder",
        "size": 128,
        "output": output,
        "bottleneck": 16,
        "width": 4,
    }
    assert kept["loss"]["ssim"] == 0.7
