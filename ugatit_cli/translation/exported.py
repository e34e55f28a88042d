"""Models that `ugatit export` wrote as ONNX files: onnxruntime runs them, and nothing here needs PyTorch."""

from __future__ import annotations

import importlib
import io
import os
import shlex
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import IO, Any, Final, Self

import numpy as np

from ugatit_cli.arguments import checked
from ugatit_cli.attention.maps import missing_maps
from ugatit_cli.config import SCALES, Direction, MapName
from ugatit_cli.errors import ModelError, PictureError, UsageError, install_line, plain_reason
from ugatit_cli.exporting.store import CAM_LOGIT, HEATMAP, KEY, PICTURE, STYLE, TRANSLATION, Description
from ugatit_cli.files import expanded, open_file
from ugatit_cli.pictures.geometry import Pixels
from ugatit_cli.pictures.styles import StyleCode
from ugatit_cli.translation.choices import resolve_direction
from ugatit_cli.translation.engine import Cores, Heat, OptionalWay, Seen, Way
from ugatit_cli.translation.translator import Translator
from ugatit_cli.weights.hashes import PIN, hash_of, split_pin

SUFFIX: Final = ".onnx"
_EXPORT_AGAIN: Final = "Make it again: ugatit export MODEL -o FILE.onnx"


def is_exported(model: str) -> bool:
    """Whether what users call a model is an exported file, existing or not."""
    return model.partition(PIN)[0].lower().endswith(SUFFIX)


class ExportedModel(Translator):
    """A generator in an ONNX file, of one direction; see `Model`, whose `translate` and `attention_maps` it has.

    Made by `ugatit_cli.load_exported`. The file is opened when it is first needed, for each number of CPU threads.

    Args:
        model: the file, perhaps with a pin: `clay.onnx@sha256:DIGEST`.

    Attributes:
        only: the direction.

    Raises:
        ModelError: no such file, none that `ugatit export` wrote, a damaged one, or another one than the pinned.
        UsageError: onnxruntime isn't installed, or the pin is none.
    """

    @checked
    def __init__(self, model: str | PathLike[str]) -> None:
        self.name, pin = split_pin(fspath(model))
        self.path = expanded(self.name)
        self._described = _description(self.path)
        if pin and (found := hash_of(self.path)) != pin:
            raise ModelError(f"{self.name}: expected sha256:{pin} (the pin), found sha256:{found}", _EXPORT_AGAIN)
        self.config = self._described.networks
        self.provenance = self._described.provenance
        self.only: Direction = resolve_direction(self.config, self.name, self._described.direction)
        if (size := self._described.size) is not None:
            self.size = size[1], size[0]
        self._runtime = _runtime(self.name)
        self._threads = threading.local()
        self._lock = threading.Lock()
        self._sessions: dict[int, Any] = {}

    @property
    def export_line(self) -> str:
        """The command that writes such a file anew, but for its options."""
        return f"ugatit export {shlex.quote(self._described.name)} -o FILE.onnx"

    @property
    def missing_maps(self) -> Mapping[MapName, str]:
        """See `Engine`; all of discriminators."""
        missing: dict[MapName, str] = {} if self._described.maps else {"generator": "it was exported without --maps"}
        missing |= dict.fromkeys(SCALES, "exported files have no discriminators")
        return missing | missing_maps(self.config, discriminators=True)

    @property
    def on_cpu(self) -> bool:
        """It does."""
        return True

    @property
    def place(self) -> str:
        """With what runs it."""
        return f"cpu ({self.cores} threads, onnxruntime {self._runtime.__version__})"

    @property
    def float_type(self) -> str:
        """That of the file's weights."""
        return self._described.precision

    @property
    def cores(self) -> int:
        """As PyTorch's: `OMP_NUM_THREADS`, else all that this process may use."""
        return getattr(self._threads, "count", 0) or _cores()

    @checked
    def use_cores(self, count: Cores) -> None:
        """Each number has a session of its own."""
        self._threads.count = count

    @checked
    def direction(self, direction: OptionalWay = None, to: str | None = None) -> Direction:
        """The only one; a UsageError if another one is asked for."""
        asked = self.only if direction is None and to is None else super().direction(direction, to)
        if asked != self.only:
            way = f"{self.config.source(self.only)} to {self.config.target(self.only)}"
            hint = f"For the other way: {self.export_line} --direction {asked}"
            raise UsageError(f"{self.name}: was exported to translate {way}", hint)
        return asked

    @checked
    def networks(self, direction: Way, maps: Sequence[MapName] = (), *, tiled: bool = False) -> OnnxNetworks:
        """The generator.

        Raises:
            PictureError: `tiled`: each tile would be translated in its own way.
        """
        self.direction(direction)
        if tiled:
            raise PictureError(
                "needs tiles, and an exported file would give each its own colours",
                "Use --fit aspect, --tile off (which takes more memory), or the model that was exported.",
            )
        return OnnxNetworks(self, maps)

    def style(self, *_: Any, **__: Any) -> StyleCode:
        """There is nothing that tells it."""
        reason = f"{self.name}: has no style encoder, as all exported files"
        raise UsageError(reason, "Use --style random:SEED, or the model that was exported.")

    def session(self) -> Any:
        """onnxruntime's, for as many threads as the calling one uses; several may run it at once.

        Raises:
            ModelError: onnxruntime doesn't take the file.
        """
        with self._lock:
            if self.cores not in self._sessions:
                self._sessions[self.cores] = self._opened(self.cores)
            return self._sessions[self.cores]

    def _opened(self, cores: int) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = cores, 1
        options.log_severity_level = 4
        options.enable_mem_pattern = False  # or each size of pictures would keep its own
        options.add_session_config_entry("session.force_spinning_stop", "1")  # threads that decode want the cores
        try:
            session = self._runtime.InferenceSession(self.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's have no common base
            raise self._unfit(str(error)) from None
        inputs, outputs = ({one.name for one in some} for some in (session.get_inputs(), session.get_outputs()))
        if inputs != {PICTURE, *[STYLE] * bool(self.config.style_size)} or TRANSLATION not in outputs:
            raise ModelError(f"{self.path}: damaged: has other inputs and outputs than it says", _EXPORT_AGAIN)
        return session

    def _unfit(self, reason: str) -> ModelError:
        """Why onnxruntime doesn't take the file."""
        if "IR version" in reason or "opset" in reason:
            runtime = f"onnxruntime {self._runtime.__version__}"
            return ModelError(f"{self.path}: newer than {runtime} can read", "pip install --upgrade onnxruntime")
        return ModelError(f"{self.path}: damaged: onnxruntime can't read it", _EXPORT_AGAIN)


class OnnxNetworks:
    """The generator, as `passes` asks for it."""

    def __init__(self, model: ExportedModel, maps: Sequence[MapName]) -> None:
        self.model = model
        self.maps = maps

    def begin(self, batch: Sequence[Pixels], styles: Sequence[StyleCode], size: int) -> OnnxBegun:
        """What the generator makes of pictures: it is there at once."""
        session = self.model.session()
        (most,) = {one.shape[0] for one in session.get_inputs() if one.name == PICTURE}
        step = min(size, most) if isinstance(most, int) else size
        starts = range(0, len(batch), step)
        parts = [self._seen(session, batch[i : i + step], styles[i : i + step]) for i in starts]
        return OnnxBegun(parts)

    def _seen(self, session: Any, batch: Sequence[Pixels], styles: Sequence[StyleCode]) -> list[Seen] | None:
        picture = np.stack(batch).transpose(0, 3, 1, 2).astype(np.float32, order="C")
        inputs = {PICTURE: np.divide(picture, 255, out=picture), **({STYLE: np.stack(styles)} if styles else {})}
        wanted = [TRANSLATION, *([HEATMAP] if self.maps else [])]
        wanted += [one.name for one in session.get_outputs() if self.maps and one.name == CAM_LOGIT]
        try:
            found = dict(zip(wanted, session.run(wanted, inputs), strict=True))
        except Exception as error:  # onnxruntime's have no common base
            if "allocate memory" in str(error) or "bad_alloc" in str(error):
                raise MemoryError from None
            raise ModelError(f"{self.model.path}: damaged: onnxruntime can't run it", _EXPORT_AGAIN) from error
        image = found.pop(TRANSLATION)
        if not np.isfinite(image).all():
            return None
        pixels = np.rint(np.clip(image, 0, 1, out=image) * np.float32(255)).astype(np.uint8).transpose(0, 2, 3, 1)
        return [Seen(one, self._heats(found, i)) for i, one in enumerate(pixels)]

    def _heats(self, found: Mapping[str, Any], i: int) -> Mapping[MapName, Heat]:
        if not self.maps:
            return {}
        logits = (float(found[CAM_LOGIT][i, 0]), float(found[CAM_LOGIT][i, 1])) if CAM_LOGIT in found else None
        return {"generator": (found[HEATMAP][i, 0], logits)}

    def for_parts_of(self, sample: Sequence[Pixels], styles: Sequence[StyleCode]) -> Self:
        """Never asked for: see `ExportedModel.networks`."""
        raise NotImplementedError

    def free(self) -> None:
        """There is nothing to give back."""


@dataclass(frozen=True)
class OnnxBegun:
    """Results that are there, in parts; None for a part with what isn't a number."""

    parts: Sequence[list[Seen] | None]
    late: bool = False

    def finished(self) -> list[Seen] | None:
        """See `Begun`."""
        found = [part for part in self.parts if part is not None]
        return [one for part in found for one in part] if len(found) == len(self.parts) else None


def _runtime(name: str) -> Any:
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        raise UsageError(f"{name} needs onnxruntime, which isn't installed", install_line("export")) from None


def _cores() -> int:
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdecimal() and int(stated):
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- What a file says of itself. The package onnx takes longer to import than a small picture to translate.


def _description(path: Path) -> Description:
    """What `ugatit export` has written into an ONNX file."""
    try:
        with open_file(path) as file:
            properties = dict(_properties(file))
    except OSError as error:
        raise ModelError(f"{path}: {plain_reason(error)}", _EXPORT_AGAIN) from None
    except (ValueError, KeyError):
        raise ModelError(f"{path}: not a complete ONNX file", _EXPORT_AGAIN) from None
    return Description.read(properties.get(KEY), str(path))


# Numbers of fields in onnx.proto: ModelProto's metadata_props, and what a StringStringEntryProto has.
_METADATA, _KEY, _VALUE = 14, 1, 2
# Bytes of values by their wire type; those of type 2 say it themselves.
_LENGTHS = {1: 8, 5: 4}


def _properties(file: IO[bytes]) -> Iterator[tuple[str, str]]:
    """The metadata of an ONNX file; a ValueError if it isn't a whole protobuf."""
    for number, content in _fields(file, {_METADATA}):
        if number == _METADATA:
            entry = dict(_fields(io.BytesIO(content), {_KEY, _VALUE}))
            yield entry.get(_KEY, b"").decode(), entry.get(_VALUE, b"").decode()


def _fields(file: IO[bytes], wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """The fields of a message in protobuf's wire format: what is wanted of those that have a length."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind == 0:
            _varint(file)
            continue
        length = _varint(file) if kind == 2 else _LENGTHS[kind]
        if file.tell() + length > end:
            raise ValueError("ends too soon")
        if kind == 2 and number in wanted:
            yield number, file.read(length)
        else:
            file.seek(length, os.SEEK_CUR)


def _varint(file: IO[bytes]) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            break
        value |= (byte[0] & 127) << shift
        if byte[0] < 128:
            return value
    raise ValueError("ends too soon")
