"""What a file is, told from its first bytes: for those that somebody took for weights."""

from __future__ import annotations

from typing import Final

HEAD: Final = 512
KNOWN: Final = (
    "ugatit reads checkpoints of U-GAT-IT (PyTorch, TensorFlow, PaddlePaddle), CycleGAN (latest_net_G*.pth) and "
    "CartoonGAN (*_net_G_float.pth), and safetensors with the same names."
)
_DOWNLOAD: Final = "Download it again; opened in a browser, it says why it came instead."
ARCHIVE: Final = ("an archive, not a checkpoint", "Unpack it first.")
_BEGINNINGS: Final = {
    (b"version https://git-lfs",): (
        "a Git LFS pointer, not the file itself",
        "Run `git lfs pull` where it is from.",
    ),
    (b"<",): ("a web page, not a checkpoint", _DOWNLOAD),
    (b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"\xfd7zXZ", b"BZh", b"(\xb5/\xfd"): ARCHIVE,
    (b"\x89PNG", b"\xff\xd8\xff", b"GIF8"): ("a picture, not a checkpoint", ""),
    (b"\x89HDF",): ("a file of HDF5, which ugatit doesn't read", ""),
}
_TAR: Final = slice(257, 262)


def is_safetensors(head: bytes) -> bool:
    """Whether a file that begins so is safetensors: eight bytes of a length, then JSON."""
    return head[8:9] == b"{" and head[6:8] == b"\0\0"


def foreign(head: bytes) -> tuple[str, str] | None:
    """What a file that begins so is, and the way out, where it can't be a checkpoint; None: it may be one.

    Args:
        head: `HEAD` bytes, or all of them.
    """
    if not head:
        return "an empty file", "Copy or download it again."
    if head[_TAR] == b"ustar":
        return ARCHIVE
    text = head.lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((found for starts, found in _BEGINNINGS.items() if text.startswith(starts)), None)
