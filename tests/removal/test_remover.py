import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from inpaint_core.detection.config import UltralyticsConfig
from inpaint_core.detection.detector import Detection
from inpaint_core.errors import DeviceFault, ImageError, Stage, WeightsError
from inpaint_core.inpainting.config import OpencvConfig
from inpaint_core.inpainting.inpainter import Inpainter
from inpaint_core.removal.config import MaskConfig, MeasureConfig, RemoveConfig, WriteConfig
from inpaint_core.removal.image_task import ImageTask
from inpaint_core.removal.record import TIMED_STAGES
from inpaint_core.removal.remover import ObjectRemover, remove_objects
from tests.odd_files import saved
from tests.samples import PAINT, PaintDetector, decoded, encoded, painted, photograph

CONFIG = RemoveConfig(
    "in",
    "out",
    detector=UltralyticsConfig(classes=("paint",)),
    inpainter=OpencvConfig(),
    mask=MaskConfig(grow_min=2, min_object_pixels=20),
)


def remover(config: RemoveConfig = CONFIG, detector: PaintDetector | None = None) -> ObjectRemover:
    model = config.inpainter.build(None, device=torch.device("cpu"), autocast=False)
    return ObjectRemover(config, detector or PaintDetector(), Inpainter(model, config.fill))


def test_an_image_with_an_object_is_cleaned_and_measured() -> None:
    truth = photograph()
    image = painted(truth, (60, 40, 80, 70))
    data = encoded(image)
    output, record = remove_objects(data, remover(), key="a.png")
    assert output is not None
    result = decoded(output)
    assert record.status == "cleaned"
    assert (record.width, record.height, record.format) == (160, 120, "PNG")
    assert [(found.label, found.pixels, found.box) for found in record.objects or []] == [
        ("paint", 600, (60.0, 40.0, 80.0, 70.0))
    ]
    grown = record.mask_fraction or 0
    assert 600 / (160 * 120) < grown < 2 * 600 / (160 * 120)
    assert record.outside_max_diff == 0  # PNG is lossless
    assert record.outside_exact is True
    assert record.residual_objects == 0
    assert PaintDetector().detect([result], ["a"]) == [[]]
    assert (result[:30] == image[:30]).all()
    assert np.abs(result[40:70, 60:80].astype(float) - truth[40:70, 60:80]).mean() < 40
    assert record.shifted_pixels == pytest.approx(grown * 160 * 120)
    assert 0 < (record.l1 or 0) < 0.3
    assert (record.psnr or 0) == pytest.approx(-10 * np.log10(record.l2 or 1))
    assert -1 <= (record.ssim or 9) <= 1
    assert (record.seam or 0) > 0
    assert record.output_size == len(output)
    assert set(record.seconds) == set(TIMED_STAGES) - {"read", "write"}


def test_what_a_format_notes_is_in_the_record_of_a_cleaned_image_alone() -> None:
    broken = b"\x00\x00\x00\x03tEXta\x00b\x00\x00\x00\x00"
    for boxes in ([(60, 40, 80, 70)], []):
        data = encoded(painted(photograph(), *boxes))
        _, record = remove_objects(data[:33] + broken + data[33:], remover())
        note = "the checksum of the PNG's tEXt chunk is wrong, and the chunk was dropped"
        assert record.note == (note if boxes else None)


def xmp_with_names() -> bytes:
    """A packet with two regions of Microsoft: Ann over the painted box (60, 40, 80, 70) of 160 x 120, Bob elsewhere."""
    regions = "".join(
        f'<rdf:li MPReg:Rectangle="{place}" MPReg:PersonDisplayName="{name}"/>'
        for name, place in (("Ann", "0.4, 0.35, 0.08, 0.2"), ("Bob", "0.7, 0.35, 0.08, 0.2"))
    )
    microsoft = "http://ns.microsoft.com/photo/1.2/"
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description xmlns:MP="{microsoft}" xmlns:MPRI="{microsoft}t/RegionInfo#" xmlns:MPReg="{microsoft}t/Region#">'
        f'<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag>{regions}</rdf:Bag></MPRI:Regions></MP:RegionInfo>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    ).encode()


@pytest.mark.parametrize("names", ["drop", "keep"])
def test_the_names_of_removed_people_go_and_the_record_tells_what_is_dropped(names: Literal["drop", "keep"]) -> None:
    picture = Image.fromarray(painted(photograph(), (60, 40, 80, 70)))
    data = saved(picture, "JPEG", quality=95, subsampling=0, xmp=xmp_with_names()) + b"garbage"
    output, record = remove_objects(data, remover(replace(CONFIG, write=WriteConfig(names=names))))
    assert output is not None
    assert (b"Ann" in output) == (names == "keep")
    assert b"Bob" in output
    dropped = "names of 1 region dropped; " if names == "drop" else ""
    assert record.note == f"{dropped}7 bytes behind the image dropped"


def test_of_an_image_without_an_object_nothing_is_dropped() -> None:
    data = saved(Image.fromarray(photograph()), "JPEG", xmp=xmp_with_names()) + b"garbage"
    output, record = remove_objects(data, remover())
    assert (output, record.status, record.note) == (data, "unchanged", None)


def test_the_brightest_object_of_an_image_of_12_bits_in_16_leaves_no_change_outside() -> None:
    # Without the object the range of the samples is another one, by which everything would be shown brighter.
    samples = photograph().astype(np.uint16) * 8 + 100
    samples[40:70, 60:80] = np.array(PAINT, np.uint16) * 16
    data = cv2.imencode(".png", samples[..., ::-1])[1].tobytes()
    output, record = remove_objects(data, remover())
    assert output is not None
    assert (record.status, record.outside_max_diff, record.residual_objects) == ("cleaned", 0, 0)
    result = cv2.imdecode(np.frombuffer(output, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1]
    assert result.dtype == np.uint16
    assert (result[:30] == samples[:30]).all()
    assert result.max() <= 8 * 255 + 100


def test_an_image_without_an_object_is_the_same_bytes() -> None:
    data = encoded(photograph(), "JPEG", quality=40)
    output, record = remove_objects(data, remover())
    assert output is data
    assert (record.status, record.objects, record.mask_fraction) == ("unchanged", [], 0.0)
    assert record.outside_max_diff is None
    assert record.outside_exact is None
    assert record.output_size == len(data)


def test_a_mask_too_large_is_left_alone_and_noted() -> None:
    data = encoded(painted(photograph(), (0, 0, 160, 110)))
    output, record = remove_objects(data, remover())
    assert output is data
    assert record.status == "unchanged"
    assert len(record.objects or []) == 1
    assert "max_mask_fraction" in (record.note or "")


@pytest.mark.parametrize(("tiles", "size", "noted"), [("off", 64, True), ("off", 96, False), ("auto", 64, False)])
def test_an_image_that_is_scaled_down_far_is_noted(tiles: str, size: int, noted: bool) -> None:
    settings = UltralyticsConfig(classes=("paint",), image_size=size, tiles=tiles)  # type: ignore[arg-type]
    data = encoded(painted(photograph(), (60, 40, 80, 70)))  # 160 x 120 pixels
    _, record = remove_objects(data, remover(replace(CONFIG, detector=settings)))
    note = "scaled down 2.5 times to be searched, without tiles: small objects may be missed"
    assert (record.status, record.note) == ("cleaned", note if noted else None)


def test_objects_too_small_are_noted() -> None:
    data = encoded(painted(photograph(), (5, 5, 8, 8)))
    output, record = remove_objects(data, remover())
    assert output is data
    assert (record.status, bool(record.note)) == ("unchanged", True)


def test_a_corrupt_image_is_a_failed_record() -> None:
    data = encoded(photograph(), "JPEG")
    output, record = remove_objects(data[: len(data) // 2], remover())
    assert output is None
    assert (record.status, record.stage) == ("failed", "decode")
    assert record.error
    assert record.output_size is None


def test_measures_can_be_left_out() -> None:
    config = replace(CONFIG, measure=MeasureConfig(residual_objects=False, shifted_hole=False))
    detector = PaintDetector()
    data = encoded(painted(photograph(), (60, 40, 80, 70)))
    _, record = remove_objects(data, remover(config, detector))
    assert record.status == "cleaned"
    assert (record.residual_objects, record.l1, record.shifted_pixels) == (None, None, None)
    assert len(detector.batches) == 1


def test_a_jpeg_changes_little_outside_the_mask() -> None:
    image = painted(photograph((320, 240)), (100, 100, 140, 180))
    output, record = remove_objects(encoded(image, "JPEG", quality=90), remover())
    assert output is not None
    assert output[:2] == b"\xff\xd8"
    assert (record.outside_max_diff or 0) < 60
    assert record.outside_exact is True
    assert record.note is None
    assert not (np.abs(decoded(output).astype(int) - PAINT).max(axis=2) < 60).any()


def test_a_jpeg_without_its_end_marker_is_cleaned_and_noted() -> None:
    image = painted(photograph((320, 240)), (100, 100, 140, 180))
    output, record = remove_objects(encoded(image, "JPEG", quality=90)[:-2], remover())
    assert output is not None
    assert output.endswith(b"\xff\xd9")
    assert (record.status, record.outside_exact) == ("cleaned", True)
    assert record.note == "the JPEG file has no end marker, but all its pixels; the output has one"


def test_what_is_coded_again_is_not_exact_outside_the_mask_and_a_jpeg_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    image = painted(photograph((320, 240)), (100, 100, 140, 180))
    _, record = remove_objects(encoded(image, "WEBP", quality=80), remover())
    assert (record.status, record.outside_exact, record.note) == ("cleaned", False, None)
    monkeypatch.setitem(sys.modules, "jpegio", None)
    _, record = remove_objects(encoded(image, "JPEG", quality=80), remover())
    assert (record.status, record.outside_exact) == ("cleaned", False)
    assert record.note == "the JPEG file was coded again as a whole: the package pyjpegio is not installed"


class Moody(PaintDetector):
    """Fails for whole batches, and for one image also alone."""

    def __init__(self, bad: str, error: Exception) -> None:
        super().__init__()
        self.bad, self.error = bad, error

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        found = super().detect(images, keys)
        if self.bad in keys:
            raise self.error
        return found


def tasks(*keys: str) -> list[ImageTask]:
    data = encoded(painted(photograph(), (60, 40, 80, 70)))
    made = []
    for key in keys:
        _, record = remove_objects(data, remover(), key=key)
        made.append(ImageTask(replace(record, seconds={}, status="failed"), data=data))
    return made


@pytest.mark.parametrize(
    ("error", "stage", "reason"),
    [
        (ImageError("detect", "no mask file"), "detect", "no mask file"),
        (RuntimeError("out of memory"), "detect", "RuntimeError: out of memory"),
    ],
)
def test_one_bad_image_of_a_batch_fails_alone(error: Exception, stage: str, reason: str) -> None:
    detector = Moody("c", error)
    job = remover(detector=detector)
    batch = tasks("a", "b", "c", "d")
    for task in batch:
        job.decode(task)
    job.fill(batch)
    assert detector.batches == [["a", "b", "c", "d"], ["a", "b"], ["c", "d"], ["c"], ["d"]]
    for task in batch:
        job.encode(task)
    assert [task.record.status for task in batch] == ["cleaned", "cleaned", "failed", "cleaned"]
    assert (batch[2].record.stage, batch[2].record.error) == (stage, reason)
    assert batch[2].output is None


def test_what_no_image_is_to_blame_for_stops_the_job() -> None:
    with pytest.raises(WeightsError, match="another network"):
        remove_objects(encoded(photograph()), remover(detector=Moody("image", WeightsError("another network"))))


ILLEGAL = torch.AcceleratorError(
    "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be ..."
)


def test_a_fault_of_the_gpu_is_no_fault_of_an_image() -> None:
    detector = Moody("c", ILLEGAL)
    job = remover(detector=detector)
    batch = tasks("a", "b", "c", "d")
    for task in batch:
        job.decode(task)
    with pytest.raises(DeviceFault, match=r"^CUDA error: an illegal memory access was encountered$") as raised:
        job.fill(batch)
    assert raised.value.__cause__ is ILLEGAL
    assert detector.batches == [["a", "b", "c", "d"]], "nothing is tried again on a GPU that has failed"
    assert not any(task.over for task in batch)


def test_a_fault_of_the_gpu_passes_through_a_step_of_one_image() -> None:
    (task,) = tasks("a")
    with pytest.raises(DeviceFault, match="illegal"), task.timed(Stage.MEASURE):
        raise ILLEGAL
    with pytest.raises(DeviceFault, match="gone"), task.timed(Stage.MEASURE):
        raise DeviceFault("gone")
    assert not task.over


class Cramped(PaintDetector):
    """Has memory for one image at a time."""

    def detect(self, images: Sequence[NDArray[np.uint8]], keys: Sequence[str]) -> list[list[Detection]]:
        found = super().detect(images, keys)
        if len(images) > 1:
            raise self.error
        return found

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


def context_without_memory() -> torch.AcceleratorError:
    error = torch.AcceleratorError("CUDA error: out of memory")
    error.error_code = 2  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), context_without_memory()])
def test_lack_of_memory_is_no_fault(error: Exception) -> None:
    job = remover(detector=Cramped(error))
    batch = tasks("a", "b")
    for task in batch:
        job.decode(task)
    job.fill(batch)
    assert not any(task.over for task in batch)


@pytest.mark.parametrize("works", [True, False])
def test_the_gpu_is_asked_after_an_error_of_a_library(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronize() -> None:
        if not works:
            raise ILLEGAL

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    job = remover(detector=Moody("a", RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED")))
    (task,) = tasks("a")
    job.decode(task)
    if works:
        job.fill([task])
        assert task.record.stage == "detect"
    else:
        with pytest.raises(DeviceFault, match="illegal"):
            job.fill([task])
        assert not task.over
