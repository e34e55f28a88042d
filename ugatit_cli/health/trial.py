"""A test in a few seconds: a picture through a bundled model in every precision, and a file in the home folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from ugatit_cli.config import DEFAULT_MODEL, PRECISIONS
from ugatit_cli.errors import DeviceError, UgatitError, plain_reason
from ugatit_cli.health.findings import Finding, reason
from ugatit_cli.health.versions import module
from ugatit_cli.wording import duration

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE: Final = 128
# Of a picture in another precision, compared with fp32 on the CPU: below, it is another picture.
LEAST_PSNR: Final = 20.0
# Seconds for each precision, after the first picture.
LONG_ENOUGH: Final = 0.5
MOST: Final = 10


def trial() -> Iterator[Finding]:
    """What a file and a picture come to."""
    yield _home()
    torch = module("torch")
    if isinstance(torch, BaseException):
        yield Finding("picture", "not translated, as torch can't be imported", "problem")
        return
    try:
        from ugatit_cli.device import resolve_device

        first, device = _translated("cpu", "fp32"), str(resolve_device("auto"))
    except Exception as error:  # of a broken installation anything
        message = error.message if isinstance(error, UgatitError) else reason(error)
        yield Finding("picture", f"can't be translated: {message}", "problem", getattr(error, "hint", ""))
        return
    yield _judged("cpu fp32", first, first[0])
    for precision in PRECISIONS:
        if (device, precision) != ("cpu", "fp32"):
            yield _compared(device, precision, first[0])


def _home() -> Finding:
    """Whether a file can be written, renamed and read where models are kept."""
    from ugatit_cli.files import write_file
    from ugatit_cli.weights.home import home_folder

    path = home_folder() / "doctor.tmp"
    there = path.parent.exists()
    try:
        write_file(path, b"ugatit")  # which renames
        same = path.read_bytes() == b"ugatit"
        path.unlink()
        if not there:
            with contextlib.suppress(OSError):
                path.parent.rmdir()
    except (OSError, UgatitError) as error:
        hint = "Models can't be kept: UGATIT_HOME=DIR chooses another folder."
        return Finding("file", f"{path.parent}: {plain_reason(error)}", "note", hint)
    if not same:
        return Finding("file", f"{path}: not what was written", "problem", "The disk may be broken.")
    return Finding("file", f"{path.parent}: written, renamed, read")


def _picture() -> Image:
    """A drawn icon, the same everywhere."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((16, 16, 112, 112), "gold")
    draw.ellipse((40, 44, 52, 60), "black")
    draw.ellipse((76, 44, 88, 60), "black")
    draw.arc((40, 56, 88, 96), 20, 160, "black", 6)
    return image


def _translated(device: str, precision: str) -> tuple[Any, float]:
    """The icon, translated, as uint8 (H, W, 3), and the seconds for one."""
    import numpy as np

    from ugatit_cli import load

    model, picture = load(DEFAULT_MODEL, device=device, precision=precision), _picture()
    result = np.asarray(model.translate(picture).convert("RGB"))
    start, count = time.monotonic(), 0
    while count < MOST and time.monotonic() - start < LONG_ENOUGH:
        model.translate(picture)
        count += 1
    return result, (time.monotonic() - start) / max(1, count)


def _compared(device: str, precision: str, wanted: Any) -> Finding:
    name = f"{device} {precision}"
    try:
        return _judged(name, _translated(device, precision), wanted)
    except DeviceError as error:
        return Finding(name, f"not here: {error.message}", facts={"runs": False})
    except Exception as error:
        return Finding(name, f"fails: {reason(error)}", "note", f"Use another --precision than {precision}.")


def _judged(name: str, found: tuple[Any, float], wanted: Any) -> Finding:
    import numpy as np

    result, seconds = found
    error = float(np.square(result.astype(np.float64) - wanted).mean())
    psnr = 10 * np.log10(255**2 / error) if error else None
    facts = {"runs": True, "milliseconds": round(1000 * seconds, 2), "psnr": psnr and round(float(psnr), 2)}
    same = "the same as fp32 on the CPU" if psnr is None else f"PSNR {psnr:.1f} dB against fp32 on the CPU"
    text = f"{duration(seconds)} for {SIDE} x {SIDE} pixels{f', {same}' if result is not wanted else ''}"
    if psnr is not None and psnr < LEAST_PSNR:
        return Finding(name, text, "problem", "That is another picture: use another --precision, or --device.", facts)
    return Finding(name, text, facts=facts)
