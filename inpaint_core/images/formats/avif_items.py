"""Where the coded picture of an AVIF file lies (ISO/IEC 14496-12: 8.11.3 `iloc`, 8.11.4 `pitm`, 8.11.6 `iinf`)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

_IN_FILE, _IN_META = 0, 1


def coded_picture(data: bytes, meta: Mapping[bytes, bytes]) -> bytes:
    """The AV1 stream of the primary item; of one that is a grid, the stream of its first tile. Empty: not found.

    Args:
        data: the whole file.
        meta: the boxes of its `meta` box by type.
    """
    try:
        kinds = _item_kinds(meta.get(b"iinf", b""))
        primary_box = meta.get(b"pitm", b"")
        primary = int.from_bytes(primary_box[4 : 6 if primary_box[:1] == b"\x00" else 8], "big")
        coded = [item for item, kind in kinds.items() if kind == b"av01"]
        item = primary if primary in coded else min(coded, default=-1)
        method, extents = _locations(meta.get(b"iloc", b"")).get(item, (_IN_FILE, []))
    except (struct.error, LookupError):
        return b""
    if method not in (_IN_FILE, _IN_META):
        return b""
    holder = data if method == _IN_FILE else meta.get(b"idat", b"")
    return b"".join(holder[start : start + length if length else None] for start, length in extents)


def _item_kinds(iinf: bytes) -> dict[int, bytes]:
    """Item number -> four letters of its type."""
    position, kinds = (6 if iinf[:1] == b"\x00" else 8), {}
    while position + 8 <= len(iinf):
        (size,) = struct.unpack_from(">L", iinf, position)
        entry = iinf[position + 8 : position + size]
        if entry[:1] in (b"\x02", b"\x03"):
            number = 2 if entry[0] == 2 else 4
            kinds[int.from_bytes(entry[4 : 4 + number], "big")] = entry[6 + number : 10 + number]
        position += max(size, 8)
    return kinds


def _locations(iloc: bytes) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Item number -> (construction method, extents as (start, length))."""
    position = 0

    def take(size: int) -> int:
        nonlocal position
        if position + size > len(iloc):
            raise IndexError
        position += size
        return int.from_bytes(iloc[position - size : position], "big")

    version, _, sizes = take(1), take(3), take(2)
    offset_size, length_size, base_size, index_size = sizes >> 12, sizes >> 8 & 15, sizes >> 4 & 15, sizes & 15
    located = {}
    for _ in range(take(2 if version < 2 else 4)):
        item = take(2 if version < 2 else 4)
        method = take(2) & 15 if version else _IN_FILE
        take(2)
        base = take(base_size)
        extents = []
        for _ in range(take(2)):
            take(index_size if version else 0)
            extents.append((base + take(offset_size), take(length_size)))
        located[item] = method, extents
    return located
