"""Every error that reaches a user: what went wrong, the way out, a code word and the exit code it ends with.

Raised anywhere below the command line; rendered in one place, `cli/console.py`. docs/scripts.md lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Literal

Extra = Literal["data", "eval", "export", "face", "heic", "remote", "serve", "tensorboard", "tiff", "video", "watch"]
# The package is on no index yet, so that its name can't be installed; these can be, from anywhere.
EXTRAS: Final[Mapping[Extra, str]] = {
    "data": "pyarrow resvg-py",
    "eval": "torch-fidelity torchmetrics",
    "export": "onnx onnxruntime",
    "face": "onnxruntime",
    "heic": "pillow-heif",
    "remote": "fsspec s3fs",
    "serve": "fastapi uvicorn python-multipart",
    "tensorboard": "tensorboard",
    "tiff": "tifffile imagecodecs",
    "video": "av",
    "watch": "watchdog",
}
UPGRADE: Final = "Upgrade ugatit: git pull && pip install . in its checkout."


def install_line(extra: Extra) -> str:
    """The command that installs what one of the extras of pyproject.toml adds."""
    return f"pip install {EXTRAS[extra]}"


def plain_reason(error: BaseException) -> str:
    """What went wrong, in words that need no traceback."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, UnicodeDecodeError):
        return f"no {error.encoding.upper()} text"
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error).rstrip(".") or type(error).__name__


Changed = Literal["archive", "device", "film", "format", "install", "max-pixels", "precision", "size", "tile"]


@dataclass(frozen=True)
class Change:
    """A way out that has another name elsewhere than on the command line: a field of the API, a control of a page.

    Attributes:
        option: its name on the command line, without dashes; or `install`, or of what else the file is one.
        value: for it, or what installs it; empty: another one than now.
    """

    option: Changed
    value: str = ""


class UgatitError(Exception):
    """Base of all errors meant for users.

    Args:
        message: what went wrong, naming the file or option.
        hint: the way out, a full sentence in the words of the command line; may be empty.
        change: the same for who has other words; None: the hint is for all.

    Attributes:
        code: what programs tell it by.
        exit_code: of a command that ends with it.
    """

    code: ClassVar[str] = "failed"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "", *, change: Change | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.change = change


class InputsFailed(UgatitError):
    """Some inputs failed, each already named; the rest is done."""

    code = "inputs-failed"


class PictureError(UgatitError):
    """A picture can't be read, or can't be translated at its size."""

    code = "picture-unusable"


class OutputError(UgatitError):
    """A result can't be written: full disk, missing permission."""

    code = "output-failed"


class StorageError(OutputError):
    """Nothing more can be written: the disk is full."""

    code = "disk-full"


class UsageError(UgatitError):
    """An option, argument or configuration value that makes no sense."""

    code = "usage"
    exit_code = 2


class WrongType(UsageError, TypeError):  # as in Python, where it is one
    """An argument of the Python interface that is of another type than it takes."""


class AlreadyThere(UsageError, OutputError):
    """A file or folder that exists already, and that nobody has said to replace."""


class ConfigError(UsageError):
    """A `ModelConfig` whose values contradict each other or are out of range."""

    code = "config-invalid"


class DeviceError(UsageError):
    """A device or precision that this machine doesn't have, or has lost."""

    code = "device-missing"
    exit_code = 5


class ModelError(UgatitError):
    """A model or weights that are missing, damaged, or don't fit."""

    code = "model-unusable"
    exit_code = 3


class ModelMissing(ModelError):
    """There is no such model here, or no weights of it."""

    code = "model-missing"


class FetchError(ModelError):
    """A file that can't be had from a network, or isn't what it should be."""

    code = "fetch-failed"


class NoRoomError(StorageError, FetchError):
    """The disk is full while something is fetched."""

    exit_code = 3


class TrainingError(UgatitError):
    """Training stopped, or can't start, on bad data or a loss that isn't finite."""

    code = "training-failed"
    exit_code = 4


class DataError(TrainingError):
    """Pictures that can't be trained on: too few, or none of them readable."""

    code = "data-unusable"


class Interrupted(UgatitError):
    """Ctrl-C: everything finished so far is kept."""

    code = "interrupted"
    exit_code = 130


class Saved(Interrupted):
    """Ctrl-C in what goes on from there: as wished, and no error in words."""


class FileFailed(UgatitError):
    """The system refuses a file, for a reason that nobody foresaw."""

    code = "file-failed"


class NoMemory(UgatitError):
    """The memory of this machine, or what a process may have of it, is used up."""

    code = "memory-short"


class BrokenInstallation(UgatitError):
    """`ugatit doctor` found what keeps ugatit from working."""

    code = "installation-broken"


class InternalError(UgatitError):
    """A bug in ugatit."""

    code = "internal"
