"""PNG files whose texts and profiles are large or broken: the picture is all that counts."""

from __future__ import annotations

import io
import struct
import zlib

import pytest

from tests.helpers import picture
from tests.pictures.test_reading import animation, chunk, near, pixel, reason, saved, swapped_profile
from ugatit_cli.pictures import png
from ugatit_cli.pictures.reading import read_picture

PLAIN = saved(picture(32, 24), "PNG")
HEADER_END, PIXELS_END = 33, len(PLAIN) - 12
MEGABYTES = b"x" * 3_000_000


def with_chunk(extra: bytes, at: int = HEADER_END) -> bytes:
    return PLAIN[:at] + extra + PLAIN[at:]


def profile_chunk(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


def wrong_checksum(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("at", [HEADER_END, PIXELS_END])
@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MEGABYTES)),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(MEGABYTES)),
        chunk(b"tEXt", b"workflow\0" + MEGABYTES),
        wrong_checksum(chunk(b"tEXt", b"Comment\0hello")),
        wrong_checksum(chunk(b"pHYs", struct.pack(">IIB", 2835, 2835, 1))),
        chunk(b"zTXt", b"Comment\0\0no zlib stream"),
    ],
)
def test_text_never_costs_the_picture(extra: bytes, at: int) -> None:
    read = read_picture(with_chunk(extra, at))
    assert read.frames[0].rgb.tobytes() == picture(32, 24).tobytes()
    assert read.notes == ()


@pytest.mark.parametrize(
    "extra", [chunk(b"iCCP", b""), chunk(b"iCCP", b"a\0\0rubbish"), wrong_checksum(profile_chunk(swapped_profile()))]
)
def test_a_broken_profile_is_none(extra: bytes) -> None:
    read = read_picture(with_chunk(extra))
    assert read.frames[0].rgb.tobytes() == picture(32, 24).tobytes()
    assert not read.had_profile


@pytest.mark.parametrize(("size", "used"), [(0, True), (3_000_000, True), (40_000_000, False)])
def test_a_large_profile_is_used(size: int, used: bool) -> None:
    profile = swapped_profile()
    whole = struct.pack(">I", len(profile) + size) + profile[4:] + bytes(size)
    read = read_picture(with_chunk(profile_chunk(whole)))
    assert read.had_profile == used
    small = pixel(read_picture(with_chunk(profile_chunk(profile))).frames[0].rgb)
    assert near(pixel(read.frames[0].rgb), small if used else pixel(picture(32, 24)), 0)


def test_an_animation_keeps_its_frames() -> None:
    data = animation("PNG", duration=[50, 70, 90], loop=0)
    big = data[:33] + chunk(b"zTXt", b"Comment\0\0" + zlib.compress(MEGABYTES)) + data[33:]
    one, other = read_picture(data), read_picture(big)
    assert (one.durations, one.loop) == (other.durations, other.loop)
    assert [frame.rgb.tobytes() for frame in one.frames] == [frame.rgb.tobytes() for frame in other.frames]


def test_damage_of_pixels_stays_damage() -> None:
    large = with_chunk(chunk(b"tEXt", b"a\0" + MEGABYTES))
    assert "truncated" in reason(large[:-60]).message
    assert "damaged" in reason(large.replace(b"IHDR\0", b"IHDR\1", 1)).message


def test_a_file_without_such_chunks_is_not_copied() -> None:
    stream = io.BytesIO(PLAIN)
    assert png.lightened(stream) == (stream, None)
