"""What a file is, told from its first bytes: for those that somebody took for weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from ugatit_cli.files import open_file

HEAD: Final = 512
KNOWN: Final = (
    "ugatit reads checkpoints of U-GAT-IT (PyTorch, TensorFlow, PaddlePaddle), CycleGAN (latest_net_G*.pth), "
    "CartoonGAN (*_net_G_float.pth), UNIT and MUNIT (gen_*.pt), DRIT, and safetensors with the same names."
)
_DOWNLOAD: Final = "Download it again; opened in a browser, it says why it came instead."
ARCHIVE: Final = ("an archive, not a checkpoint", "Unpack it first.")
NUMPY_FILE: Final = ("arrays of NumPy, which ugatit doesn't read", KNOWN)
FIRST_PYTORCH: Final = (
    "a file of the first versions of PyTorch",
    "Load it with PyTorch, if you trust it, and save its state dict again with torch.save.",
)
_BEGINNINGS: Final = {
    (b"version https://git-lfs",): (
        "a Git LFS pointer, not the file itself",
        "Run `git lfs pull` where it is from.",
    ),
    (b"<",): ("a web page, not a checkpoint", _DOWNLOAD),
    (b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh", b"(\xb5/\xfd"): ARCHIVE,
    (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"): ("a picture, not a checkpoint", KNOWN),
    (b"\x89HDF",): ("a file of HDF5 (Keras), which ugatit doesn't read", KNOWN),
    (b"\x93NUMPY",): NUMPY_FILE,
    (b"GGUF",): ("a GGUF file, which ugatit doesn't read", KNOWN),
    (b"%PDF",): ("a PDF, not a checkpoint", KNOWN),
}
LARGEST_HEADER: Final = 4 << 20
"""Bytes of the names and shapes of all tensors in a safetensors file, generously."""

MAGIC: Final = 0x1950A86A20F9469CFC6C
"""What the first pickle in an old file of PyTorch is."""

_TAR: Final = slice(257, 262)
# Its version, then who wrote it.
_ONNX: Final = re.compile(rb"\x08[\x01-\x20]\x12[\x01-\x40][ -~]")


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is safetensors: eight bytes of a length, then JSON."""
    return head[8:9] == b"{" and head[6:8] == b"\0\0"


def is_old_pytorch(head: bytes) -> bool:
    """Whether a file that begins so is one of PyTorch before 1.6."""
    return MAGIC.to_bytes(10, "little") in head[:24]


def is_pickle(head: bytes) -> bool:
    """Whether a file that begins so is a pickle that is nobody's else, as `.pdparams` files are."""
    return head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and not is_old_pytorch(head)


def check_tensors(path: Path) -> None:
    """Looks at a safetensors file before it is mapped into memory and its header is read whole.

    Raises:
        OSError: there is no such file, or it is none that can be read.
        ValueError: its header is far larger than that of a model.
    """
    with open_file(path) as file:
        head = file.read(HEAD)
    length = int.from_bytes(head[:8], "little")
    if is_safetensors(head) and LARGEST_HEADER < length < path.stat().st_size:
        raise ValueError(f"a header of {length:,} bytes, far more than the names of a model's tensors")


def foreign(head: bytes) -> tuple[str, str] | None:
    """What a file that begins so is, and the way out, where it can't be a checkpoint; None: it may be one.

    Args:
        head: `HEAD` bytes, or all of them.
    """
    if not head:
        return "an empty file", "Copy or download it again."
    if head[_TAR] == b"ustar":
        return FIRST_PYTORCH if head.startswith((b"sys_info\0", b"storages\0", b"tensors\0")) else ARCHIVE
    if head[4:8] == b"TFL3" or _ONNX.match(head):
        return "a program of ONNX or TensorFlow Lite, not a checkpoint", KNOWN
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((found for starts, found in _BEGINNINGS.items() if text.startswith(starts)), None)
