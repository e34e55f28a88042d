"""What results say of themselves: what their sources do, but for what is no longer true."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageFile, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo

from tests.helpers import picture
from ugatit_cli.pictures import exif
from ugatit_cli.pictures.encoding import encode, lost_metadata
from ugatit_cli.pictures.exif import Entry, Exif
from ugatit_cli.pictures.reading import Picture, open_picture

Image.init()
HOLDING = [format for format in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF") if format in Image.SAVE]
MAIN, PHOTO, GPS = 0, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo
TURNED = 6

XMP = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmlns:dc="http://purl.org/dc/elements/1.1/"
 xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
 tiff:Orientation="6" tiff:Make="Maker" GCamera:MicroVideoOffset="12345" xmp:Rating="4">
<exif:PixelXDimension>24</exif:PixelXDimension><xmp:Thumbnails><rdf:Alt/></xmp:Thumbnails>
<dc:creator><rdf:Seq><rdf:li>Jürgen</rdf:li></rdf:Seq></dc:creator>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()


def source_exif(order: str = ">") -> Exif:
    """That of a photo that was turned, with a small picture's traces."""

    def number(value: int, kind: int = 3) -> Entry:
        return Entry(kind, value.to_bytes(2 if kind == 3 else 4, "big" if order == ">" else "little"))

    def ratios(*values: int) -> Entry:
        return Entry(5, b"".join(number(one, 4).data + number(1, 4).data for one in values))

    return Exif(
        order,
        {
            MAIN: {0x0112: number(TURNED), 0x010F: Entry(2, b"Maker\0"), 0x013B: Entry(2, "Jürgen\0".encode())},
            PHOTO: {
                0x829A: ratios(3),
                0x9003: Entry(2, b"2024:02:03 04:05:06\0"),
                0x9286: Entry(7, b"ASCII\0\0\0a comment"),
                0x927C: Entry(7, b"notes of the maker" * 99),
                0xA001: number(0xFFFF),
                0xA002: number(24, 4),
                0xA003: number(16, 4),
            },
            GPS: {1: Entry(2, b"N\0\0\0"), 2: ratios(48, 51, 29)},
        },
    )


def file_of(format: str, *, block: bytes = source_exif().block(), xmp: bytes = XMP, **options: Any) -> bytes:
    """A picture of 24 x 16 pixels with EXIF and XMP, as another program would write it."""
    if format == "PNG":
        texts = PngInfo()
        texts.add_text("parameters", "a castle, " * 200)  # longer than what Pillow is given to read
        if xmp:
            texts.add_itxt("XML:com.adobe.xmp", xmp.decode())
        options["pnginfo"] = texts
    elif format == "TIFF":
        block, options["tiffinfo"] = b"", {exif.XMP: xmp, 0x0112: TURNED, 0x010F: "Maker", 0x013B: "Jürgen".encode()}
    elif format != "GIF":
        options["xmp"] = xmp
    buffer = io.BytesIO()
    head = b"Exif\0\0" if format == "JPEG" else b""
    picture(24, 16).save(buffer, format, **options | ({"exif": head + block} if block else {}))
    return buffer.getvalue()


def kept(data: bytes) -> Picture:
    with open_picture(data, keep_metadata=True) as opened:
        frames = [*opened.frames()]
        return replace(opened.picture, frames=frames)


def opened(data: bytes) -> ImageFile.ImageFile:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("target", HOLDING)
@pytest.mark.parametrize("source", HOLDING)
def test_who_and_where_stay_and_how_pixels_lay_does_not(source: str, target: str) -> None:
    before = file_of(source)
    result = opened(encode(kept(before), target))
    read = result.getexif()
    photo, gps = read.get_ifd(PHOTO), read.get_ifd(GPS)
    assert result.size == (16, 24)  # upright
    assert read[0x010F] == "Maker"
    assert read[0x013B] == opened(before).getexif()[0x013B]
    assert 0x0112 not in read
    assert not read.get_ifd(ExifTags.IFD.IFD1)
    if source != "TIFF":
        assert (photo[0x829A], photo[0x9003], photo[0xA001]) == (3, "2024:02:03 04:05:06", 1)
        assert photo[0x9286] == b"ASCII\0\0\0a comment"
        assert (gps[1].rstrip("\0"), gps[2]) == ("N", (48, 51, 29))
    assert not {0x927C, 0xA002, 0xA003} & {*photo}
    packet = result.info["xmp"]
    assert "Jürgen".encode() in packet
    assert b'xmp:Rating="4"' in packet
    assert b'tiff:Make="Maker"' in packet
    assert not any(stale in packet for stale in (b"Orientation", b"PixelX", b"Thumbnails", b"MicroVideo"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("format", HOLDING)
def test_values_are_the_same_to_the_byte(format: str, order: str) -> None:
    """Types, too, in whatever order of bytes."""
    block = source_exif(order).block()
    wanted = exif.read(io.BytesIO(block))
    again = kept(encode(kept(file_of("JPEG", block=block)), format)).metadata
    assert again is not None
    assert again.exif is not None
    assert again.exif.whole
    found = again.exif.in_order(order).directories
    assert found[PHOTO] == wanted.directories[PHOTO]
    assert found[GPS] == wanted.directories[GPS]
    assert found[MAIN].items() >= wanted.directories[MAIN].items()


directories = st.dictionaries(
    st.integers(0, 0xFFFF).filter(lambda tag: tag not in {PHOTO, GPS}),
    st.builds(Entry, st.sampled_from([1, 2, 7]), st.binary(min_size=1, max_size=9))
    | st.builds(Entry, st.just(5), st.binary(min_size=8, max_size=8)),
    max_size=4,
)


@settings(max_examples=30)
@given(st.sampled_from("<>"), directories, directories)
def test_any_gps_is_copied_and_a_copy_is_a_fixed_point(order: str, main: exif.Directory, gps: exif.Directory) -> None:
    block = Exif(order, {MAIN: main, GPS: gps} if gps else {MAIN: main}).block()
    once = exif.read(io.BytesIO(block))
    assert once.directories.get(GPS, {}) == gps
    if once.directories:
        assert exif.read(io.BytesIO(once.block())) == once
        assert once.in_order("<").in_order(">").in_order(order) == once


@settings(max_examples=30)
@given(st.data())
def test_damaged_exif_never_stops_a_picture(data: st.DataObject) -> None:
    block = bytearray(source_exif().block())
    for _ in range(data.draw(st.integers(1, 6))):
        block[data.draw(st.integers(0, len(block) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(block)))
    result = kept(encode(kept(file_of("WEBP", block=bytes(block[:cut]))), "JPEG"))
    assert {24, 16} == {*result.size}


@pytest.mark.parametrize(
    ("block", "told"), [(b"XX*\0junk", "EXIF is damaged"), (source_exif().block()[:300], "parts")]
)
def test_damage_is_said(block: bytes, told: str) -> None:
    assert told in str(kept(file_of("PNG", block=block)).notes)


@pytest.mark.parametrize("tag", [0x011A, 0x011B, 0x0128])
def test_a_density_that_is_none_stops_no_jpeg(tag: int) -> None:
    """Pillow opens none with such EXIF: such a photo is read, and such a result is never written."""
    block = Exif("<", {MAIN: {0x0128: Entry(3, b"\2\0"), 0x010F: Entry(2, b"Maker\0"), tag: Entry(1, b"\0")}}).block()
    assert opened(encode(kept(file_of("WEBP", block=block)), "JPEG")).getexif()[0x010F] == "Maker"
    assert kept(file_of("JPEG", block=block)).size == (24, 16)


@pytest.mark.parametrize(
    "packet",
    [b"<x:xmpmeta", b"not XML", b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', b"<x>\xff\xfe</x>"],
)
def test_broken_xmp_is_left_out(packet: bytes) -> None:
    source = kept(file_of("WEBP", xmp=packet))
    assert "its XMP is damaged, and not kept" in source.notes
    assert not opened(encode(source, "WEBP")).info.get("xmp")


def test_texts_of_png_stay_texts() -> None:
    """Also long ones, which programs that draw have their settings in."""
    result = opened(encode(kept(file_of("PNG")), "PNG"))
    assert result.info["parameters"] == "a castle, " * 200


def test_iptc_and_comment_stay_in_jpeg() -> None:
    iptc = b"\x1c\x02\x78\x00\x07caption"
    segment = b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0" + len(iptc).to_bytes(4, "big") + iptc
    extra = b"\xff\xed" + (len(segment) + 2).to_bytes(2, "big") + segment
    source = kept(file_of("JPEG", extra=extra, comment=b"hello"))
    result = opened(encode(source, "JPEG"))
    assert result.info["comment"] == b"hello"
    assert IptcImagePlugin.getiptcinfo(result) == {(2, 120): b"caption"}
    assert IptcImagePlugin.getiptcinfo(opened(encode(source, "TIFF"))) == {(2, 120): b"caption"}
    assert opened(encode(source, "GIF")).info["comment"] == b"hello"


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        ("JPEG", "GIF", ["GIF has no place for its EXIF, XMP"]),
        ("PNG", "JPEG", ["JPEG has no place for its texts"]),
        ("PNG", "BMP", ["BMP has no place for its EXIF, XMP, texts"]),
        ("PNG", "PNG", []),
    ],
)
def test_what_a_format_cannot_hold_is_said(source: str, target: str, told: list[str]) -> None:
    assert [*lost_metadata(kept(file_of(source)), target)] == told


def test_what_is_too_long_for_jpeg_is_said() -> None:
    block = Exif("<", {PHOTO: {0x9286: Entry(7, bytes(70_000))}}).block()
    source = kept(file_of("PNG", block=block))
    assert [*lost_metadata(source, "JPEG")][-1] == "JPEG has no room for its EXIF"
    assert 0x9286 not in opened(encode(source, "JPEG")).getexif().get_ifd(PHOTO)
    assert len(opened(encode(source, "WEBP")).getexif().get_ifd(PHOTO)[0x9286]) == 70_000


@pytest.mark.parametrize("format", HOLDING)
def test_nothing_is_said_unasked(format: str) -> None:
    """A result has no metadata unless it is to keep them."""
    with open_picture(file_of(format)) as source:
        frames = [*source.frames()]
        data = encode(replace(source.picture, frames=frames), format)
    assert not {"xmp", "exif", "comment", "parameters"} & {*opened(data).info}
    assert b"rgen" not in data


def test_animations_keep_theirs() -> None:
    """WebP and APNG."""
    buffer = io.BytesIO()
    picture(24, 16).save(
        buffer, "WEBP", save_all=True, append_images=[picture(24, 16, 1)], exif=source_exif().block()
    )
    source = kept(buffer.getvalue())
    assert source.animated
    for format in ("WEBP", "PNG"):
        assert opened(encode(source, format)).getexif()[0x010F] == "Maker"
