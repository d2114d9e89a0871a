"""Other pictures in XMP: previews and depth maps within it, gain maps and videos behind the image.

The image is written without them, so the packet must not announce them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from inpaint_core.images.metadata.previews import without_xmp_pictures
from inpaint_core.images.metadata.xmp import Name, Property, XmpError, edited, parse, properties, removal, text_of

GAIN_MAP, VIDEO = "gain map", "motion video"
UNREADABLE = "the XMP is unreadable and stays as it is"
_DEPTH, _ORIGINAL = "depth map", "second picture of a depth photograph"
_GOOGLE = "http://ns.google.com/photos/1.0/"
_DYNAMIC_DEPTH = "http://ns.google.com/photos/dd/1.0/"
_NAMESPACES = {
    "http://ns.adobe.com/hdr-gain-map/1.0/": GAIN_MAP,
    "http://ns.apple.com/HDRGainMap/1.0/": GAIN_MAP,
    _GOOGLE + "depthmap/": _DEPTH,
    _GOOGLE + "image/": _ORIGINAL,
    _DYNAMIC_DEPTH + "device/": _DEPTH,
}
# Lists of previews, and of the files behind the image; what these are is said elsewhere.
_LISTS: tuple[Name, ...] = (
    ("http://ns.adobe.com/xap/1.0/", "Thumbnails"),
    (_GOOGLE + "container/", "Directory"),
    (_DYNAMIC_DEPTH + "container/", "Directory"),
)
_CAMERAS = (_GOOGLE + "camera/", "http://ns.oplus.com/photos/1.0/camera/")
_VIDEO_PREFIXES = ("MotionPhoto", "MicroVideo", "OLivePhoto")
_VIDEO_SWITCHES = ("MotionPhoto", "MicroVideo")


@dataclass(frozen=True)
class CleanXmp:
    """XMP packets without other pictures."""

    packets: tuple[bytes, ...]
    within: frozenset[str]
    """Kinds of pictures that the packets themselves held."""
    announced: frozenset[str]
    """Kinds of what they said to lie elsewhere in the file: `GAIN_MAP`, `VIDEO`."""
    readable: bool
    """False where one of them is malformed: that one is without the pictures that are found without parsing it."""

    def notes(self) -> tuple[str, ...]:
        """Remarks for the record of an image whose format has no place for what is announced."""
        claims = tuple(f"announcement of a {kind} dropped" for kind in sorted(self.announced))
        return (*dropped(self.within), *claims, *(() if self.readable else (UNREADABLE,)))


def dropped(kinds: Iterable[str]) -> tuple[str, ...]:
    """Remarks for a record: one for each kind of picture, sorted."""
    return tuple(f"{kind} dropped" for kind in sorted(kinds))


def clean_xmp(*packets: bytes) -> CleanXmp:
    """Take other pictures and their announcements out of packets; empty ones stay empty."""
    clean, readable = [], True
    within: set[str] = set()
    announced: set[str] = set()
    for packet in map(without_xmp_pictures, packets):
        try:
            found = list(properties(parse(packet))) if packet.strip(b"\x00 \t\r\n") else []
        except XmpError:
            found, readable = [], False
        has_video = any(_is_switched_on(name, value) for name, value in found)
        edits = []
        for name, value in found:
            is_of_video = has_video and name[0] in _CAMERAS and name[1].startswith(_VIDEO_PREFIXES)
            kind = VIDEO if is_of_video else _NAMESPACES.get(name[0])
            if kind is not None:
                (announced if kind in (GAIN_MAP, VIDEO) else within).add(kind)
            if kind is not None or name in _LISTS:
                edits.append(removal(value))
        clean.append(edited(packet, edits))
    return CleanXmp(tuple(clean), frozenset(within), frozenset(announced), readable)


def _is_switched_on(name: Name, value: Property) -> bool:
    """Whether this is the property that says that a video follows; 0 says that none does."""
    if name == (_CAMERAS[1], "OLivePhotoVersion"):
        return True
    return name[0] == _CAMERAS[0] and name[1] in _VIDEO_SWITCHES and text_of(value) not in ("", "0")
