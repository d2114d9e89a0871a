"""Names of removed people in XMP: by the place of their region."""

import io

import numpy as np
import pytest
import tifffile
from PIL import PngImagePlugin

from inpaint_core.images.encode import encode
from inpaint_core.images.formats.samples import to_upright
from inpaint_core.images.metadata.regions import without_regions
from inpaint_core.images.names import without_names
from tests.encoding import filled, load, opened
from tests.images.metadata.packets import XMP, extended_xmp, main_xmp, names_in, packet
from tests.images.metadata.test_jpeg_segments import LONG, with_extended
from tests.odd_files import exif_block, jpeg, jpeg_segment, picture, saved, with_segments

# Removed: x 0.5 to 0.75, y 0.5 to 1 of the stored image.
MASK = np.zeros((40, 80), bool)
MASK[20:, 40:60] = True


def mwg(*regions: str, dimensions: str = "") -> str:
    listed = "".join(f"<rdf:li>{region}</rdf:li>" for region in regions)
    return (
        f'<mwg-rs:Regions rdf:parseType="Resource">{dimensions}'
        f"<mwg-rs:RegionList><rdf:Bag>{listed}</rdf:Bag></mwg-rs:RegionList></mwg-rs:Regions>"
    )


def face(name: str, **area: float | str) -> str:
    places = " ".join(f'stArea:{key}="{value}"' for key, value in ({"unit": "normalized"} | area).items())
    return f'<rdf:Description mwg-rs:Name="{name}" mwg-rs:Type="Face"><mwg-rs:Area {places}/></rdf:Description>'


def applied(width: int, height: int) -> str:
    return f'<mwg-rs:AppliedToDimensions stDim:w="{width}" stDim:h="{height}" stDim:unit="pixel"/>'


def persons(*names: str) -> str:
    listed = "".join(f"<rdf:li>{name}</rdf:li>" for name in names)
    return f"<Iptc4xmpExt:PersonInImage><rdf:Bag>{listed}</rdf:Bag></Iptc4xmpExt:PersonInImage>"


def microsoft(*regions: tuple[str, str]) -> str:
    listed = "".join(f'<rdf:li MPReg:Rectangle="{place}" MPReg:PersonDisplayName="{name}"/>' for name, place in regions)
    return (
        '<MP:RegionInfo rdf:parseType="Resource"><MPRI:Regions><rdf:Bag>'
        f"{listed}</rdf:Bag></MPRI:Regions></MP:RegionInfo>"
    )


def iptc(name: str, shape: str, **values: float | str) -> str:
    corners = values.pop("corners", "")
    numbers = "".join(f"<Iptc4xmpExt:{key}>{value}</Iptc4xmpExt:{key}>" for key, value in values.items())
    named = f'<Iptc4xmpExt:Name><rdf:Alt><rdf:li xml:lang="x-default">{name}</rdf:li></rdf:Alt></Iptc4xmpExt:Name>'
    return (
        f'<rdf:li rdf:parseType="Resource">{named if name else ""}<Iptc4xmpExt:RegionBoundary rdf:parseType="Resource">'
        f"<Iptc4xmpExt:rbShape>{shape}</Iptc4xmpExt:rbShape>{numbers}{corners}</Iptc4xmpExt:RegionBoundary></rdf:li>"
    )


def iptc_regions(*regions: str) -> str:
    return f"<Iptc4xmpExt:ImageRegion><rdf:Bag>{''.join(regions)}</rdf:Bag></Iptc4xmpExt:ImageRegion>"


def left(xml: str, orientation: int = 1, mask: np.ndarray = MASK) -> tuple[str, int]:
    """The packet's properties as text, and the number of regions that went."""
    (packed,), count = without_regions([packet(xml)], mask, orientation)
    names_in(packed)  # well-formed
    return packed.decode(), count


def test_a_region_of_mwg_over_removed_pixels_goes_with_its_name() -> None:
    # MWG gives the centre of the area.
    gone, stays = face("Ann", x=0.6, y=0.75, w=0.1, h=0.2), face("Bob", x=0.25, y=0.5, w=0.1, h=0.2)
    xml, count = left(mwg(gone, stays) + persons("Ann", "Bob", "Cy") + "<dc:subject>Ann</dc:subject>")
    assert count == 1
    assert xml.encode() == packet(mwg(stays) + persons("Bob", "Cy") + "<dc:subject>Ann</dc:subject>")


@pytest.mark.parametrize(
    ("area", "is_gone"),
    [
        ({"x": 0.6, "y": 0.75, "w": 0.1, "h": 0.2}, True),
        ({"x": 0.45, "y": 0.75, "w": 0.2, "h": 0.2}, True),  # a quarter
        ({"x": 0.45, "y": 0.75, "w": 0.125, "h": 0.2}, False),  # a tenth
        ({"x": 0.5, "y": 0.5, "w": 1, "h": 1}, False),  # an eighth
        ({"x": 0.6, "y": 0.75, "d": 0.2}, True),
        ({"x": 0.6, "y": 0.3, "d": 0.2}, False),
        ({"x": 0.6, "y": 0.75}, True),
        ({"x": 0.3, "y": 0.75}, False),
        ({"x": 48, "y": 30, "w": 8, "h": 8, "unit": "pixel"}, True),
        ({"x": 24, "y": 30, "w": 8, "h": 8, "unit": "pixel"}, False),
        ({"x": 9, "y": 9, "w": 1, "h": 1}, False),
        ({"x": "nan", "y": 0.5, "w": 1, "h": 1}, False),
        ({"x": 0.6, "y": "1e999", "w": 1, "h": 1}, False),
        ({"w": 0.1, "h": 0.1}, False),
    ],
)
def test_areas_of_mwg(area: dict[str, float | str], is_gone: bool) -> None:
    assert left(mwg(face("Ann", **area)))[1] == is_gone


def test_fields_may_be_elements_and_the_last_region_takes_the_list_with_it() -> None:
    area = "".join(
        f"<stArea:{key}>{value}</stArea:{key}>" for key, value in {"x": 0.6, "y": 0.75, "w": 0.1, "h": 0.1}.items()
    )
    region = (
        '<mwg-rs:Regions><rdf:Description><mwg-rs:RegionList><rdf:Bag><rdf:li rdf:parseType="Resource">'
        f'<mwg-rs:Name>Ann</mwg-rs:Name><mwg-rs:Area rdf:parseType="Resource">{area}</mwg-rs:Area>'
        "</rdf:li></rdf:Bag></mwg-rs:RegionList></rdf:Description></mwg-rs:Regions>"
    )
    xml, count = left(region + persons("Ann") + "<dc:title>a title</dc:title>")
    assert (count, names_in(xml.encode())) == (1, {"dc:title"})


def test_a_name_that_another_region_has_as_well_stays_in_the_list() -> None:
    twice = mwg(face("Ann", x=0.6, y=0.75, w=0.1, h=0.1), face("Ann", x=0.2, y=0.2, w=0.1, h=0.1))
    xml, count = left(twice + persons("Ann"))
    assert count == 1
    assert persons("Ann") in xml


def test_areas_of_focus_and_proposals_of_crops_stay() -> None:
    focus = face("", x=0.6, y=0.75, w=0.1, h=0.1).replace('"Face"', '"Focus"')
    crop = iptc_regions(iptc("", "rectangle", rbUnit="relative", rbX=0.5, rbY=0.5, rbW=0.2, rbH=0.4))
    assert left(mwg(focus) + crop)[1] == 0
    assert left(mwg(focus.replace('"Focus"', '"Face"')))[1] == 1


def test_regions_of_microsoft() -> None:
    # Upper left corner, width, height.
    xml, count = left(
        microsoft(("Ann", "0.55, 0.6, 0.1, 0.2"), ("Bob", "0.3,0.6,0.1,0.2"), ("Cy", "1, 2")) + persons("Ann")
    )
    assert count == 1
    assert microsoft(("Bob", "0.3,0.6,0.1,0.2"), ("Cy", "1, 2")) in xml
    assert "Ann" not in xml


@pytest.mark.parametrize(
    ("shape", "values", "is_gone"),
    [
        ("rectangle", {"rbUnit": "relative", "rbX": 0.55, "rbY": 0.6, "rbW": 0.1, "rbH": 0.2}, True),
        ("rectangle", {"rbUnit": "relative", "rbX": 0.35, "rbY": 0.6, "rbW": 0.1, "rbH": 0.2}, False),
        ("rectangle", {"rbUnit": "pixel", "rbX": 44, "rbY": 24, "rbW": 8, "rbH": 8}, True),
        ("circle", {"rbUnit": "relative", "rbX": 0.6, "rbY": 0.75, "rbRx": 0.05}, True),
        ("circle", {"rbUnit": "pixel", "rbX": 48, "rbY": 10, "rbRx": 5}, False),
        ("ellipse", {"rbUnit": "relative", "rbX": 0.6, "rbY": 0.75, "rbRx": 0.05}, False),
    ],
)
def test_shapes_of_iptc(shape: str, values: dict[str, float | str], is_gone: bool) -> None:
    xml, count = left(iptc_regions(iptc("Ann", shape, **values)) + persons("Ann"))
    assert count == is_gone
    assert ("Ann" in xml) != is_gone


def test_polygons_of_iptc_and_persons_with_details() -> None:
    vertices = "".join(
        f'<rdf:li rdf:parseType="Resource"><Iptc4xmpExt:rbX>{x}</Iptc4xmpExt:rbX><Iptc4xmpExt:rbY>{y}</Iptc4xmpExt:rbY></rdf:li>'
        for x, y in ((0.5, 0.5), (0.7, 0.5), (0.6, 0.9))
    )
    corners = f"<Iptc4xmpExt:rbVertices><rdf:Seq>{vertices}</rdf:Seq></Iptc4xmpExt:rbVertices>"
    details = (
        '<Iptc4xmpExt:PersonInImageWDetails><rdf:Bag><rdf:li rdf:parseType="Resource"><Iptc4xmpExt:PersonName><rdf:Alt>'
        '<rdf:li xml:lang="x-default">Ann</rdf:li></rdf:Alt></Iptc4xmpExt:PersonName></rdf:li></rdf:Bag></Iptc4xmpExt:PersonInImageWDetails>'
    )
    xml, count = left(iptc_regions(iptc("Ann", "polygon", rbUnit="relative", corners=corners)) + details)
    assert (count, names_in(xml.encode())) == (1, set())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_dimensions_tell_whether_a_region_is_of_the_stored_or_of_the_displayed_image(orientation: int) -> None:
    # Of the stored image: at the removed place. The displayed image has it elsewhere.
    as_stored = mwg(face("Ann", x=0.6, y=0.75, w=0.1, h=0.2), dimensions=applied(80, 40))
    assert left(as_stored, orientation)[1] == 1
    displayed = to_upright(MASK, orientation)
    rows, columns = np.nonzero(displayed)
    height, width = displayed.shape
    x, y = (columns.mean() + 0.5) / width, (rows.mean() + 0.5) / height
    as_displayed = mwg(face("Ann", x=x, y=y, w=0.1, h=0.1), dimensions=applied(width, height))
    assert left(as_displayed, orientation)[1] == 1
    if orientation in (6, 7, 8):
        # The same place with the other dimensions means other pixels.
        assert left(mwg(face("Ann", x=x, y=y, w=0.05, h=0.05), dimensions=applied(80, 40)), orientation)[1] == 0
    # Where nothing tells, either counts.
    assert left(mwg(face("Ann", x=x, y=y, w=0.05, h=0.05)), orientation)[1] == 1
    assert left(mwg(face("Ann", x=0.6, y=0.75, w=0.05, h=0.05)), orientation)[1] == 1


def test_large_masks_give_the_same() -> None:
    large = np.kron(MASK, np.ones((50, 50), bool))
    xml = mwg(face("Ann", x=0.6, y=0.75, w=0.02, h=0.04), face("Bob", x=0.49, y=0.75, w=0.01, h=0.02))
    assert left(xml, mask=large)[1] == 1


def test_thousands_of_regions_are_compared_soon() -> None:
    whole = mwg(*[face("Ann", x=0.5, y=0.5, w=1, h=1)] * 2000)
    assert left(whole, mask=np.zeros((3000, 4000), bool))[1] == 0


REGIONS = mwg(face("Ann", x=0.6, y=0.75, w=0.1, h=0.2), face("Bob", x=0.25, y=0.5, w=0.1, h=0.2)) + persons(
    "Ann", "Bob"
)


def files() -> dict[str, bytes]:
    xmp, image = packet(REGIONS, wrapped=True), picture(80, 40)
    text, compressed = PngImagePlugin.PngInfo(), PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode(), lang="en", tkey="key")
    compressed.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=True)
    return {
        "jpeg": with_segments(saved(image, "JPEG"), jpeg_segment(0xE1, XMP + xmp)),
        "png": saved(image, "PNG", pnginfo=text),
        "png, compressed": saved(image, "PNG", pnginfo=compressed),
        "webp": saved(image, "WEBP", xmp=xmp),
        "tiff": saved(image, "TIFF", tiffinfo={700: xmp}),
        "avif": saved(image, "AVIF", xmp=xmp),
    }


@pytest.mark.parametrize("name", files())
def test_every_format_that_keeps_xmp_drops_names(name: str) -> None:
    source = load(files()[name])
    named, count = without_names(source, MASK)
    assert count == 1
    written = load(encode(named, filled(source), MASK, lossy_quality=90).data)
    image = opened(encode(named, filled(source), MASK, lossy_quality=90).data)
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or image.tag_v2[700]
    xmp = xmp.encode() if isinstance(xmp, str) else xmp
    assert b"Ann" not in xmp
    assert xmp.count(b"Bob") == 2
    assert xmp.startswith(b'<?xpacket begin="\xef\xbb\xbf"')
    assert xmp.rstrip().endswith(b'<?xpacket end="w"?>')
    assert names_in(xmp) >= {"mwg-rs:RegionList", "mwg-rs:Name", "Iptc4xmpExt:PersonInImage"}
    assert written.notes == ()
    kept = opened(encode(source, filled(source), MASK, lossy_quality=90).data)
    xmp = kept.info.get("xmp") or kept.info.get("XML:com.adobe.xmp") or kept.tag_v2[700]
    assert (xmp.encode() if isinstance(xmp, str) else xmp).rstrip(b"\x00 ") == packet(REGIONS, wrapped=True)


def test_names_in_extended_xmp_go_and_it_gets_a_new_guid() -> None:
    extended = packet(REGIONS + f"<dc:description>{LONG}</dc:description>")
    source = load(with_extended(persons("Ann", "Cy"), extended))
    mask = np.zeros(source.pixels.shape[:2], bool)
    mask[24:, 24:36] = True
    named, count = without_names(source, mask)
    output = encode(named, filled(source), mask, lossy_quality=90).data
    found = extended_xmp(output)
    assert found is not None
    guid, written = found
    assert count == 1
    assert b"Ann" not in written + main_xmp(output)
    assert guid.encode() in main_xmp(output)
    assert b"Cy" in main_xmp(output)
    assert load(output).notes == ()


def test_an_image_turned_by_exif_loses_the_region_at_the_removed_place() -> None:
    xmp = packet(mwg(face("Ann", x=0.6, y=0.75, w=0.1, h=0.2), dimensions=applied(48, 40)))
    data = with_segments(jpeg(), jpeg_segment(0xE1, b"Exif\x00\x00" + exif_block(6)), jpeg_segment(0xE1, XMP + xmp))
    source = load(data)
    stored = np.zeros((40, 48), bool)
    stored[25:35, 26:32] = True
    assert without_names(source, np.ascontiguousarray(to_upright(stored, 6)))[1] == 1
    assert without_names(source, np.ascontiguousarray(to_upright(stored[::-1, ::-1], 6)))[1] == 0


def test_an_image_without_regions_is_the_same_object() -> None:
    for data in (jpeg(), saved(picture(), "BMP"), saved(picture(), "PNG")):
        source = load(data)
        assert without_names(source, np.ones(source.pixels.shape[:2], bool)) == (source, 0)


def test_a_tiff_keeps_the_length_of_its_packet() -> None:
    data = files()["tiff"]
    source = load(data)
    output = encode(without_names(source, MASK)[0], filled(source), MASK, lossy_quality=90).data
    with tifffile.TiffFile(io.BytesIO(output)) as file:
        assert len(file.pages[0].tags[700].value) == len(packet(REGIONS, wrapped=True))
