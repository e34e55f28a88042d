"""Names of emoji, and which of them are trained on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ugatit_cli.datasets.emoji_names import (
    HELD_OUT,
    emoji_name,
    files_by_name,
    group,
    is_unlicensed,
    places,
    shown,
)

TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
POINTS = st.lists(st.integers(1, 0x1FAFF).map(lambda point: f"{point:x}"), min_size=1, max_size=5)
NAMES = POINTS.map("-".join).map(emoji_name).filter(bool)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("0023-fe0f-20e3", "23-20e3"),
        ("1F441-FE0F-200D-1F5E8-FE0F", "1f441-200d-1f5e8"),
        ("1f3f4-e0067_e0062_e0077_e006c_e0073", "1f3f4-e0067-e0062-e0077-e006c-e0073"),
    ],
)
def test_names_of_both_packages_become_one(stem: str, name: str) -> None:
    assert emoji_name(stem) == name
    for files in ([f"{stem}.webp", "26a7.webp"], ["26a7.webp", f"{stem}.webp"]):
        assert files_by_name([*files, "readme.webp", "1f600 .webp", "...webp"]) == {
            name: f"{stem}.webp",
            "26a7": "26a7.webp",
        }


@given(POINTS, st.integers(0, 4))
def test_padding_and_variation_selectors_do_not_matter(points: list[str], width: int) -> None:
    name = emoji_name("-".join(points))
    assert emoji_name("_".join(["fe0f", *(point.zfill(width) for point in points)])) == name
    assert emoji_name(name) == name


def test_the_split_stays_as_it_was_published() -> None:
    published = {
        ("trainA",): ["1f600", "1f44d"],
        ("trainB",): ["1fa90", "a9", "23-20e3", "1f926-1f3fd-200d-2640"],
        ("valA", "valB"): ["1f34b", "1f493", "1f3ca-1f3fb", "1f468-1f3fd-200d-1f33e"],
        ("testA", "testB"): ["2764", "1f955", "270b-1f3ff", "1f469-1f3fc-200d-2708", "1f587"],
        (): ["1f3ae", "1f1e6-1f1e8"],
    }
    for where, names in published.items():
        assert {name: places(name) for name in names} == dict.fromkeys(names, where)
    trained = [places(name, validation=False) for name in published["valA", "valB"]]
    assert trained == [("trainB",), ("trainA",), ("trainA",), ("trainB",)]


@given(NAMES)
def test_what_is_held_out_is_so_in_all_benchmarks(name: str) -> None:
    assert (places(name) == HELD_OUT) == (places(name, validation=False) == HELD_OUT)


@given(NAMES, st.sampled_from(TONES), st.sampled_from(TONES))
def test_skin_tones_are_never_split(name: str, one: str, other: str) -> None:
    first, *rest = name.split("-")
    for variant in ([first, one, *rest], [first, one, *rest, other], [first, *rest, other]):
        assert group("-".join(variant)) == group(name)
        assert places("-".join(variant)) == places(name) or is_unlicensed(name)


def test_what_microsoft_keeps_back() -> None:
    kept = ["1f4ce", "1f587", "1f3ae", "1f579", "1f1e8-1f1e6", "1f3f4-e0067-e0062-e0073-e0063-e0074"]
    kept += ["1f9d1-200d-1f4bb", "1f468-1f3fc-200d-1f4bb"]
    free = ["1f3f4", "1f3f4-200d-2620", "1f3f3-200d-1f308", "1f4bb", "1f9d1-200d-1f52c"]
    assert [name for name in kept + free if is_unlicensed(name)] == kept


def test_confused_skin_tones_are_put_right() -> None:
    confused = {"270b-1f3fc": "270b-1f3fd", "1f926-1f3fd-200d-2640": "1f926-1f3fc-200d-2640"}
    right = ["270b", "270b-1f3fb", "270b-1f3fe", "1f46b-1f3fc", "1f469-1f3fd-200d-1f4bb"]
    right += ["1f468-1f3fc-200d-2764-200d-1f468-1f3fc"]
    for name, expected in (confused | dict(zip(right, right, strict=True))).items():
        assert shown(name) == expected


@given(NAMES, st.sampled_from(TONES))
def test_no_two_files_show_the_same_emoji(name: str, tone: str) -> None:
    for each in (name, f"{name}-{tone}"):
        assert shown(shown(each)) == each
        assert group(shown(each)) == group(each)
