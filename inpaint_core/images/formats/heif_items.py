"""The items of a HEIF file: pictures, metadata, and what ties them together (ISO/IEC 14496-12, 8.11; 23008-12)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from inpaint_core.images.metadata.segments import MAX_PARTS

_IN_FILE, _IN_META = 0, 1
_HIDDEN = 1

Box = tuple[bytes, bytes]
"""(type, content)."""


@dataclass(frozen=True)
class Item:
    """One item of the file."""

    kind: bytes
    """Four letters: `hvc1`, `grid`, `Exif`, `mime` ..."""
    hidden: bool
    content_type: bytes = b""
    """Of kind `mime`."""
    properties: tuple[Box, ...] = ()
    """In the order in which they apply."""
    in_meta: bool = False
    extents: tuple[tuple[int, int], ...] = ()
    """(start, length) of its parts, in the file or in the `idat` box."""


@dataclass(frozen=True)
class HeifItems:
    """What the `meta` box of a file says."""

    primary: int
    items: Mapping[int, Item]
    references: tuple[tuple[bytes, int, tuple[int, ...]], ...]
    """(type, from, to): `thmb`, `auxl` and `cdsc` point to a picture, `dimg` from one to its parts."""
    idat: bytes

    def to(self, kind: bytes, target: int) -> list[int]:
        """The items that refer to `target` in a way."""
        return [item for name, item, targets in self.references if name == kind and target in targets]

    def parts(self, item: int) -> tuple[int, ...]:
        """The pictures of which an item is put together, in order; none for others."""
        return next((targets for name, source, targets in self.references if name == b"dimg" and source == item), ())

    def content(self, data: bytes, item: int) -> bytes:
        """The bytes of an item.

        Raises:
            ValueError: it reaches beyond the end.
        """
        found = self.items[item]
        holder = self.idat if found.in_meta else data
        for start, length in found.extents:
            if start + length > len(holder):
                raise ValueError("it is cut off before its end")
        return b"".join(holder[start : start + length if length else None] for start, length in found.extents)

    def pieces(self) -> tuple[int, ...]:
        """The primary picture, and its tiles where it has any.

        Raises:
            ValueError: a tile is missing.
        """
        pieces = (self.primary, *self.parts(self.primary))
        if any(number not in self.items for number in pieces):
            raise ValueError("a part of its picture is missing")
        return pieces

    def properties(self, item: int, kind: bytes) -> list[bytes]:
        """Contents of an item's properties of a kind."""
        return [content for name, content in self.items[item].properties if name == kind]


def boxes(data: bytes) -> Iterator[Box]:
    """The boxes that follow one another (ISO/IEC 14496-12, 4.2).

    Raises:
        ValueError: one reaches beyond the end, or there are more than `MAX_PARTS`.
    """
    position, count = 0, 0
    while position + 8 <= len(data):
        count += 1
        if count > MAX_PARTS:
            raise ValueError(f"it has more than {MAX_PARTS:,} boxes")
        size, kind = struct.unpack_from(">L4s", data, position)
        header = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        elif size == 0:
            size = len(data) - position
        if size < header or position + size > len(data):
            raise ValueError("it is cut off before its end")
        yield kind, data[position + header : position + size]
        position += size


def whole_boxes(data: bytes) -> tuple[list[Box], int]:
    """The boxes of a file, up to one that is cut off or bytes that are none; and where the last one ends."""
    found: list[Box] = []
    end = 0
    while end + 8 <= len(data):
        size = int.from_bytes(data[end : end + 4], "big")
        size = int.from_bytes(data[end + 8 : end + 16], "big") if size == 1 else size or len(data) - end
        if size < 8 or end + size > len(data) or len(found) == MAX_PARTS:
            break
        found += boxes(data[end : end + size])
        end += size
    return found, end


def heif_items(meta: bytes) -> HeifItems:
    """Take a `meta` box apart.

    Raises:
        ValueError: it does not hold a primary picture.
        struct.error, IndexError: it ends within a value.
    """
    inside = dict(reversed(list(boxes(meta[4:]))))
    primary = _Reader(inside.get(b"pitm", b""))
    primary_item = primary.number(2 if primary.version() == 0 else 4)
    properties, places = _properties(inside.get(b"iprp", b"")), _places(inside.get(b"iloc", b""))
    items = {}
    for number, item in _entries(inside.get(b"iinf", b"")):
        in_meta, extents = places.get(number, (False, ()))
        items[number] = Item(item.kind, item.hidden, item.content_type, properties.get(number, ()), in_meta, extents)
    if primary_item not in items:
        raise ValueError("it has no picture")
    references = tuple(_references(inside.get(b"iref", b"")))
    return HeifItems(primary_item, items, references, inside.get(b"idat", b""))


class _Reader:
    """Numbers of a box, one after another."""

    def __init__(self, content: bytes) -> None:
        self.content, self.position, self.flags = content, 0, 0

    def number(self, size: int) -> int:
        """The next number, of so many bytes; 0 of none."""
        self.position += size
        if self.position > len(self.content):
            raise IndexError("the box ends within a number")
        return int.from_bytes(self.content[self.position - size : self.position], "big")

    def version(self) -> int:
        """The version of a full box; its flags are kept."""
        version = self.number(1)
        self.flags = self.number(3)
        return version


def _entries(iinf: bytes) -> Iterator[tuple[int, Item]]:
    reader = _Reader(iinf)
    reader.number(2 if reader.version() == 0 else 4)
    for kind, content in boxes(iinf[reader.position :]):
        entry = _Reader(content)
        version = entry.version()
        if kind != b"infe" or version < 2:
            continue
        number = entry.number(2 if version == 2 else 4)
        entry.number(2)
        letters = entry.number(4).to_bytes(4, "big")
        strings = content[entry.position :].split(b"\x00")
        content_type = strings[1] if letters == b"mime" and len(strings) > 1 else b""
        yield number, Item(letters, bool(entry.flags & _HIDDEN), content_type)


def _references(iref: bytes) -> Iterator[tuple[bytes, int, tuple[int, ...]]]:
    if not iref:
        return
    reader = _Reader(iref)
    size = 2 if reader.version() == 0 else 4
    for kind, content in boxes(iref[reader.position :]):
        entry = _Reader(content)
        source = entry.number(size)
        yield kind, source, tuple(entry.number(size) for _ in range(entry.number(2)))


def _properties(iprp: bytes) -> dict[int, tuple[Box, ...]]:
    available: list[Box] = []
    found: dict[int, tuple[Box, ...]] = {}
    for kind, content in boxes(iprp):
        if kind == b"ipco":
            available = list(boxes(content))
        elif kind == b"ipma":
            reader = _Reader(content)
            wide_items = reader.version() > 0
            wide_indices = reader.flags & 1
            for _ in range(reader.number(4)):
                item = reader.number(4 if wide_items else 2)
                indices = [
                    reader.number(2) & 0x7FFF if wide_indices else reader.number(1) & 0x7F
                    for _ in range(reader.number(1))
                ]
                found[item] = tuple(available[index - 1] for index in indices if index)
    return found


def _places(iloc: bytes) -> dict[int, tuple[bool, tuple[tuple[int, int], ...]]]:
    """Item -> (whether it lies in `idat`, extents)."""
    reader = _Reader(iloc)
    version, sizes = reader.version(), reader.number(2)
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    found = {}
    for _ in range(reader.number(2 if version < 2 else 4)):
        item = reader.number(2 if version < 2 else 4)
        method = reader.number(2) & 15 if version else _IN_FILE
        reader.number(2)
        base = reader.number(base_size)
        extents = []
        for _ in range(reader.number(2)):
            reader.number(index_size if version else 0)
            extents.append((base + reader.number(offset_size), reader.number(length_size)))
        if method in (_IN_FILE, _IN_META):
            found[item] = method == _IN_META, tuple(extents)
    return found
