"""The least entropy-coded data that the blocks of a JPEG file take: headers can claim more blocks than there are data for.

A decoder fills those up with grey and says so to nobody, for gigabytes of memory where a small file claims a large picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inpaint_core.images.formats.codec import damaged
from inpaint_core.images.metadata.segments import FRAME_MARKERS, SOS, JpegSegment

_DHT = 0xC4
# With arithmetic codes a block can take a hundredth of a bit.
_SEQUENTIAL_HUFFMAN, _PROGRESSIVE_HUFFMAN = (0xC0, 0xC1), 0xC2
_DC, _AC = 0, 1
_SIDE = 8


def has_least_data(data: bytes, segments: Sequence[JpegSegment]) -> bool:
    """Whether each scan has at least the data that its blocks take.

    With Huffman codes, a block of a scan with DC takes a code of its difference of DC (in refinements one bit), and in sequential
    files at least one code of AC, the end of the block; in scans of AC alone one code can end 32,767 blocks, so that they
    are not checked (ITU-T T.81, F.1.2 and G.1.2). A code has the bits of the shortest one of its table.

    Args:
        data: the file.
        segments: its segments, with a frame header.

    Raises:
        ImageError: a scan header is damaged.
    """
    shortest: dict[tuple[int, int], int] = {}
    frame = next(segment for segment in segments if segment.marker in FRAME_MARKERS)
    factors = _factors(data[frame.payload])
    # Decoders give components new numbers where two have the same.
    if frame.marker not in (*_SEQUENTIAL_HUFFMAN, _PROGRESSIVE_HUFFMAN) or len(factors) < data[frame.payload][5]:
        return True
    for segment in segments:
        if segment.marker == _DHT:
            shortest |= _shortest_codes(data[segment.payload])
        elif segment.marker == SOS:
            scan = data[segment.payload]
            count = scan[0] if scan else 0
            if len(scan) < 4 + 2 * count:
                raise damaged("JPEG", "a scan header is cut off")
            first, _, approximation = scan[1 + 2 * count : 4 + 2 * count]
            if frame.marker == _PROGRESSIVE_HUFFMAN and first > 0:
                continue
            scanned = [scan[1 + 2 * index] for index in range(count)]
            if any(component not in factors for component in scanned):
                raise damaged("JPEG", "a scan is of a component that the frame lacks")
            blocks = _blocks(data[frame.payload], factors, scanned)
            bits = 0
            for index in range(count):
                tables = scan[2 + 2 * index]
                of_block = 1 if approximation >> 4 else shortest.get((_DC, tables >> 4), 1)
                if frame.marker != _PROGRESSIVE_HUFFMAN:
                    of_block += shortest.get((_AC, tables & 15), 1)
                bits += blocks[index] * of_block
            if 8 * (segment.end - segment.payload.stop) < bits:
                return False
    return True


def _shortest_codes(tables: bytes) -> dict[tuple[int, int], int]:
    """(class, number) of the Huffman tables of a DHT segment -> bits of the shortest code (T.81, B.2.4.2)."""
    found, position = {}, 0
    while position + 17 <= len(tables):
        counts = tables[position + 1 : position + 17]
        kind = tables[position] >> 4, tables[position] & 15
        found[kind] = next((length for length, codes in enumerate(counts, 1) if codes), 1)
        position += 17 + sum(counts)
    return found


def _factors(frame: bytes) -> dict[int, tuple[int, int]]:
    """Component -> its sampling factors, across and down."""
    components = (frame[6 + 3 * index : 8 + 3 * index] for index in range(frame[5]))
    return {identifier: (max(1, both >> 4), max(1, both & 15)) for identifier, both in components}


def _blocks(frame: bytes, factors: Mapping[int, tuple[int, int]], scanned: Sequence[int]) -> list[int]:
    """How many blocks a scan holds of each of its components (T.81, A.2)."""
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    most_across, most_down = (max(pair[axis] for pair in factors.values()) for axis in (0, 1))
    if len(scanned) > 1:
        units = -(-width // (_SIDE * most_across)) * -(-height // (_SIDE * most_down))
        return [units * factors[component][0] * factors[component][1] for component in scanned]
    counts = []
    for component in scanned:
        across, down = factors[component]
        columns, rows = -(-width * across // most_across), -(-height * down // most_down)
        counts.append(-(-columns // _SIDE) * -(-rows // _SIDE))
    return counts
