"""TIFF directories, as TIFF files and EXIF blocks have them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_NUMBERS = {1: "B", 3: "H", 4: "L", 13: "L"}
_MAX_ENTRIES = 4096


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    type: int
    count: int
    value: bytes
    """Four bytes: the value, or the offset where it lies."""


@dataclass(frozen=True)
class Ifd:
    """One TIFF directory (TIFF 6.0, section 2): its entries, and the bytes that they point into."""

    data: bytes
    order: str
    """`<` or `>`, as in `struct`."""
    offset: int
    entries: dict[int, Entry]
    """By tag; the first where a tag comes twice."""
    entry_count: int
    next_offset: int

    @property
    def end(self) -> int:
        """One past its last byte, which is the end of the pointer to the next directory."""
        return self.offset + 2 + 12 * self.entry_count + 4

    @classmethod
    def at_header(cls, data: bytes) -> Ifd:
        """Read the first directory of a TIFF stream.

        Raises:
            ValueError, struct.error: this is no TIFF stream, or it is cut off.
        """
        order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
        if order is None:
            raise ValueError("it does not start as a TIFF file")
        return cls.read(data, order, struct.unpack_from(order + "L", data, 4)[0])

    @classmethod
    def read(cls, data: bytes, order: str, offset: int) -> Ifd:
        """Read the directory at an offset; errors as `at_header`."""
        (count,) = struct.unpack_from(order + "H", data, offset)
        if not 0 < count <= _MAX_ENTRIES or offset < 8:
            raise ValueError("its directory is unreadable")
        entries: dict[int, Entry] = {}
        for position in range(offset + 2, offset + 2 + 12 * count, 12):
            tag, type_, values, value = struct.unpack_from(order + "HHL4s", data, position)
            entries.setdefault(tag, Entry(type_, values, value))
        (next_offset,) = struct.unpack_from(order + "L", data, offset + 2 + 12 * count)
        return cls(data, order, offset, entries, count, next_offset)

    def extent(self, tag: int) -> slice | None:
        """Where in `data` the value of a tag lies; None where it is absent or within its entry.

        Raises:
            ValueError: the value lies beyond the end.
        """
        if tag not in self.entries:
            return None
        entry = self.entries[tag]
        length = TYPE_SIZES.get(entry.type, 1) * entry.count
        if length <= 4:
            return None
        (start,) = struct.unpack(self.order + "L", entry.value)
        if start + length > len(self.data):
            raise ValueError(f"the value of tag {tag} lies beyond its end")
        return slice(start, start + length)

    def raw(self, tag: int) -> bytes:
        """The value's bytes; empty where the tag is absent."""
        if tag not in self.entries:
            return b""
        extent = self.extent(tag)
        entry = self.entries[tag]
        return self.data[extent] if extent else entry.value[: TYPE_SIZES.get(entry.type, 1) * entry.count]

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The value of a BYTE, SHORT, LONG or IFD tag; empty where it is absent or of another type."""
        if tag not in self.entries or self.entries[tag].type not in _NUMBERS:
            return ()
        raw = self.raw(tag)
        code = _NUMBERS[self.entries[tag].type]
        return struct.unpack(f"{self.order}{len(raw) // struct.calcsize('=' + code)}{code}", raw)
