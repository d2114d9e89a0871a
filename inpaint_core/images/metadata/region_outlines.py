"""Regions in XMP, in the three schemas that have them: what each names, and where it lies."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from inpaint_core.images.metadata.xmp import Element, Name, Property, fields, items, text_of, texts_of

IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_MWG = "http://www.metadataworkinggroup.com/schemas/regions/"
_AREA = "http://ns.adobe.com/xmp/sType/Area#"
_DIMENSIONS = "http://ns.adobe.com/xap/1.0/sType/Dimensions#"
_MP = "http://ns.microsoft.com/photo/1.2/"
_MP_INFO, _MP_REGION = _MP + "t/RegionInfo#", _MP + "t/Region#"
_MWG_REGIONS, _MP_REGIONS, _IPTC_REGIONS = (_MWG, "Regions"), (_MP, "RegionInfo"), (IPTC, "ImageRegion")
REGION_PROPERTIES: tuple[Name, ...] = (_MWG_REGIONS, _MP_REGIONS, _IPTC_REGIONS)
# Regions that are of the camera or of an object, not of somebody.
_TECHNICAL = ("Focus", "BarCode")
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?")
_MAX_NUMBER = 1e9

Size = tuple[float, float]
Outline = list[tuple[float, float]]


@dataclass(frozen=True)
class Region:
    """One region of an image."""

    part: Element
    """Its item in the list of regions."""
    names: frozenset[str]
    outline: Outline
    """Corners (x, y), 0..1 of width and height; all the same of a point."""
    applied_to: Size | None
    """(width, height) of the image that it was drawn in, where the file tells it."""


def listed_regions(name: Name, value: Property) -> list[Element]:
    """The items of the list of regions in one of `REGION_PROPERTIES`."""
    if not isinstance(value, Element):
        return []
    if name == _MWG_REGIONS:
        return items(fields(value).get((_MWG, "RegionList")))
    if name == _MP_REGIONS:
        return items(fields(value).get((_MP_INFO, "Regions")))
    return items(value)


def regions_of(name: Name, value: Property, size: Size) -> list[Region]:
    """The regions of a property that stand for somebody or something; those without a readable place are left out.

    Args:
        name: of the property.
        value: the property.
        size: (width, height) of the stored image in pixels.
    """
    if name not in REGION_PROPERTIES or not isinstance(value, Element):
        return []
    applied_to = _applied_to(fields(value).get((_MWG, "AppliedToDimensions")))
    regions = []
    for item in listed_regions(name, value):
        found = fields(item)
        if name == _MWG_REGIONS:
            texts = texts_of(found.get((_MWG, "Name")))
            stands = bool(texts) or text_of(found.get((_MWG, "Type"))) not in _TECHNICAL
            outline = _mwg_outline(found.get((_MWG, "Area")), applied_to or size)
        elif name == _MP_REGIONS:
            texts, stands = texts_of(found.get((_MP_REGION, "PersonDisplayName"))), True
            outline = _mp_outline(found.get((_MP_REGION, "Rectangle")))
        else:
            texts = _iptc_names(found)
            stands = bool(texts)  # Others are proposals of how to crop the image.
            outline = _iptc_outline(found.get((IPTC, "RegionBoundary")), size)
        if stands and outline:
            regions.append(Region(item, frozenset(texts), outline, applied_to))
    return regions


def _applied_to(dimensions: Property | None) -> Size | None:
    if not isinstance(dimensions, Element):
        return None
    width, height = (_number(fields(dimensions).get((_DIMENSIONS, side))) for side in "wh")
    return (width, height) if width > 0 and height > 0 else None


def _iptc_names(found: dict[Name, Property]) -> list[str]:
    details = items(found.get((IPTC, "PersonInImageWDetails")))
    detailed = [text for item in details for text in texts_of(fields(item).get((IPTC, "PersonName")))]
    return texts_of(found.get((IPTC, "Name"))) + texts_of(found.get((IPTC, "PersonInImage"))) + detailed


def _number(value: Property | None) -> float:
    """The number that a property has; NaN where it has none, or one that is no coordinate."""
    text = text_of(value)
    number = float(text) if len(text) < 100 and _NUMBER.fullmatch(text) else math.nan
    return number if abs(number) < _MAX_NUMBER else math.nan


def _rectangle(left: float, top: float, width: float, height: float) -> Outline | None:
    if not all(map(math.isfinite, (left, top, width, height))):
        return None
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def _circle(x: float, y: float, radius_x: float, radius_y: float) -> Outline | None:
    if not all(map(math.isfinite, (x, y, radius_x, radius_y))):
        return None
    angles = [2 * math.pi * step / 32 for step in range(32)]
    return [(x + radius_x * math.cos(angle), y + radius_y * math.sin(angle)) for angle in angles]


def _scaled(outline: Outline | None, unit: str, size: Size) -> Outline | None:
    """The outline in 0..1, which that is already unless its unit is pixels."""
    return [(x / size[0], y / size[1]) for x, y in outline] if outline and unit == "pixel" else outline


def _mwg_outline(area: Property | None, size: Size) -> Outline | None:
    """MWG gives the centre, with the sides of a rectangle, the diameter of a circle, or neither of a point."""
    if not isinstance(area, Element):
        return None
    found = fields(area)
    x, y, width, height, diameter = (_number(found.get((_AREA, key))) for key in ("x", "y", "w", "h", "d"))
    unit = text_of(found.get((_AREA, "unit")))
    if math.isfinite(diameter):
        # Of the smaller side, where it is no number of pixels.
        across, down = (1.0, 1.0) if unit == "pixel" else (min(size) / size[0], min(size) / size[1])
        return _scaled(_circle(x, y, diameter / 2 * across, diameter / 2 * down), unit, size)
    width, height = (side if math.isfinite(side) else 0.0 for side in (width, height))
    return _scaled(_rectangle(x - width / 2, y - height / 2, width, height), unit, size)


def _mp_outline(rectangle: Property | None) -> Outline | None:
    """Microsoft gives `left, top, width, height`."""
    parts = text_of(rectangle)[:200].split(",")
    if len(parts) != 4 or not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        return None
    left, top, width, height = (min(max(float(part), -_MAX_NUMBER), _MAX_NUMBER) for part in parts)
    return _rectangle(left, top, width, height)


def _iptc_outline(boundary: Property | None, size: Size) -> Outline | None:
    """IPTC gives the upper left corner of a rectangle, the centre of a circle, or the corners of a polygon."""
    if not isinstance(boundary, Element):
        return None
    found = fields(boundary)
    unit = text_of(found.get((IPTC, "rbUnit")))
    x, y, width, height, radius = (_number(found.get((IPTC, key))) for key in ("rbX", "rbY", "rbW", "rbH", "rbRx"))
    outline: Outline | None = None
    match text_of(found.get((IPTC, "rbShape"))):
        case "rectangle":
            outline = _rectangle(x, y, width, height)
        case "circle":
            # The radius is a fraction of the width, where it is no number of pixels.
            outline = _circle(x, y, radius, radius if unit == "pixel" else radius * size[0] / size[1])
        case "polygon":
            vertices = [fields(item) for item in items(found.get((IPTC, "rbVertices")))]
            outline = [(_number(vertex.get((IPTC, "rbX"))), _number(vertex.get((IPTC, "rbY")))) for vertex in vertices]
    readable = outline and all(math.isfinite(px) and math.isfinite(py) for px, py in outline)
    return _scaled(outline, unit, size) if readable else None
