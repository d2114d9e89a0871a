"""JPEG files without their end marker: those with all their pixels are processed, the others refused."""

import numpy as np
import pytest
from PIL import Image

from inpaint_core.errors import ImageError
from inpaint_core.images.metadata.segments import EOI, SOS, walk_jpeg
from tests.encoding import cleaned, load
from tests.odd_files import saved
from tests.samples import photograph

KINDS = {
    "4:2:0": {},
    "4:4:4": {"subsampling": 0, "quality": 100},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_rows": 1},
    "many restarts": {"restart_marker_blocks": 1},
    "progressive restarts": {"progressive": True, "restart_marker_rows": 1},
}


def of_kind(kind: str) -> bytes:
    return saved(Image.fromarray(photograph((97, 61))), "JPEG", **KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instead", [b"", bytes(2), bytes(512)])
def test_whole_file_without_end_marker_is_read_and_written_with_one(kind: str, instead: bytes) -> None:
    data = of_kind(kind)
    source, output, result, mask = cleaned(data[:-2] + instead)
    assert np.array_equal(source.pixels, load(data).pixels)
    assert source.file.notes == ("the JPEG file has no end marker, but all its pixels; the output has one",)
    assert list(walk_jpeg(output))[-1].marker == EOI
    assert result.file.notes == ()
    assert not np.array_equal(result.pixels[mask], source.pixels[mask])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("instead", [b"", bytes(512)])
def test_file_that_lacks_a_few_bytes_of_its_last_scan_is_refused(kind: str, instead: bytes) -> None:
    data = of_kind(kind)
    last = max(segment.payload.stop for segment in walk_jpeg(data) if segment.marker == SOS)
    for cut in (3, 4, 5, 6, 7, 9, 12, 20, 45, 70, 71, 110):
        if len(data) - cut > last:
            with pytest.raises(ImageError, match="cut off before its end marker"):
                load(data[:-cut] + instead)


@pytest.mark.parametrize("number", range(1, 10))
def test_file_that_lacks_scans_is_refused_though_each_scan_is_whole(number: int) -> None:
    data = of_kind("progressive")
    scans = [segment for segment in walk_jpeg(data) if segment.marker == SOS]
    with pytest.raises(ImageError, match="cut off before its end marker"):
        load(data[: scans[-number - 1].end] if number < len(scans) else data[: scans[0].start])


def test_whole_file_has_no_note() -> None:
    assert load(of_kind("4:2:0")).file.notes == ()
