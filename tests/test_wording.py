"""Sizes, times and figures as people read them."""

from __future__ import annotations

import pytest

from ugatit_cli.wording import byte_size, duration, figure, shown, without_passwords


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (0.00994, "9.9 ms"), (0.00996, "10 ms"), (0.9994, "999 ms"), (0.9996, "1.0 s"),
        (9.94, "9.9 s"), (9.96, "10 s"), (89.4, "89 s"), (89.6, "1 min 30 s"), (125.4, "2 min 5 s"),
        (599.4, "9 min 59 s"), (599.6, "10 min"), (59 * 60, "59 min"), (59.7 * 60, "1 h 0 min"),
        (12_000, "3 h 20 min"), (47 * 3600, "47 h 0 min"), (51 * 3600, "2 d 3 h"), (1e7, "115 d 17 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (980, "980 B"), (999.6, "1.0 kB"), (45_230_000, "45.2 MB"), (999_600_000, "1.00 GB"),
        (8.06e9, "8.06 GB"),
    ],
)  # fmt: skip
def test_sizes(count: float, text: str) -> None:
    assert byte_size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0001, "0.0001"), (0.03123, "0.0312"), (1.3, "1.3"), (12.34, "12.3"), (12_345.6, "12346"),
        (3e9, "3000000000"),
    ],
)  # fmt: skip
def test_figures(value: float, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize(
    "text",
    [
        "é.png",
        "名前\u3000二.png",
        "👩\u200d🎨 [red].png",
        "می\u200cخواهم",
        "a\tb",
        "a\\x1b",
        "\ue000",
        "x" * 2000,
        "",
    ],
)
def test_names_are_shown_as_they_are(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    "one",
    [
        "\x00",
        "\a",
        "\b",
        "\n",
        "\r",
        "\x1b",
        "\x7f",
        "\x85",
        "\x9b",
        "\u202e",
        "\u2066",
        "\u2028",
        "\u200b",
        "\udce9",
    ],
)
def test_what_a_terminal_would_obey_is_shown_escaped(one: str) -> None:
    assert shown(f"a{one}[2Jb") == f"a{ascii(one)[1:-1]}[2Jb"
    assert shown(shown(one)) == shown(one)


@pytest.mark.parametrize("text", ["a" + "x" * 10**6 + "z", "a" + "\x1b" * 10**6 + "z"])
def test_of_a_long_text_both_ends_are_shown(text: str) -> None:
    assert len(shown(text)) < 2500
    assert (shown(text)[0], shown(text)[-1]) == ("a", "z")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("https://me:x@host/a.png?sig=x: HTTP 404", "https://***@host/a.png: HTTP 404"),
        ("zip://a.png::https://me:x@host/b.zip", "zip://a.png::https://***@host/b.zip"),
        ("proxy //me:x@host, ftp://token@host", "proxy //***@host, ftp://***@host"),
        ("S3://me:x@bucket/a?b.png", "S3://***@bucket/a?b.png"),
        ("`ugatit translate zip://me@home.zip`", "`ugatit translate zip://me@home.zip`"),
        ("./d//me@home/a.png, //server@SSL/share", "./d//me@home/a.png, //server@SSL/share"),
    ],
)
def test_passwords_of_addresses_are_not_said_and_paths_are(text: str, said: str) -> None:
    assert without_passwords(text) == said
