"""`ugatit convert`: an official checkpoint of either code becomes a model folder."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ugatit_cli.config import Precision
from ugatit_cli.device import DTYPES
from ugatit_cli.errors import ModelError
from ugatit_cli.weights import pytorch, tensorflow
from ugatit_cli.weights.folder import ModelFolder, check_target, open_model, save_model
from ugatit_cli.weights.official import Imported, ImportSettings
from ugatit_cli.weights.tensorflow import TensorBundle


def convert(
    checkpoint: Path,
    folder: Path,
    settings: ImportSettings | None = None,
    *,
    storage: Precision = "fp32",
    overwrite: bool = False,
    source: Mapping[str, str] | None = None,
) -> tuple[ModelFolder, tuple[str, ...]]:
    """Converts an official checkpoint.

    Args:
        checkpoint: a PyTorch `.pt` file, or a TensorFlow checkpoint's folder, `.index` file or prefix.
        folder: the model folder to write.
        source: where the checkpoint comes from, for the model's provenance.

    Returns:
        The model folder, and notes for the user.

    Raises:
        ModelError: the checkpoint can't be read, or isn't one of U-GAT-IT.
        OutputError: the folder exists, or can't be written.
    """
    if not folder.name:  # `.` can't be renamed
        folder = folder.absolute()
    check_target(folder, overwrite=overwrite)
    imported, dialect, file = _read(checkpoint, settings or ImportSettings(), storage)
    provenance: dict[str, Any] = {
        "imported_from": file.name,
        "code": f"official {dialect} code",
        "sha256": _sha256(file),
        **(source or {}),
    }
    save_model(
        folder,
        imported.config,
        imported.generators,
        imported.discriminators,
        storage=storage,
        provenance=provenance,
        overwrite=overwrite,
    )
    return open_model(folder), imported.notes


def _read(checkpoint: Path, settings: ImportSettings, storage: Precision) -> tuple[Imported, str, Path]:
    """The tensors, the code that wrote them, and the file that holds the weights."""
    index = Path(f"{checkpoint}.index")
    if checkpoint.is_dir() or index.is_file() or checkpoint.suffix == ".index" or ".data-" in checkpoint.name:
        prefix = tensorflow.checkpoint_prefix(checkpoint)
        imported = tensorflow.import_checkpoint(prefix, settings, dtype=DTYPES[storage])
        return imported, "TensorFlow", TensorBundle(prefix).data_file()
    if not checkpoint.is_file():
        raise ModelError(f"{checkpoint}: no such file or folder")
    return pytorch.import_checkpoint(checkpoint, settings), "PyTorch", checkpoint


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
