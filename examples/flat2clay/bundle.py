"""A model as it is bundled: `python examples/flat2clay/bundle.py MODEL OUT FILE=SHARE ... --description X ...`.

The generators are the mean of those in several safetensors files of one training, by shares that add up to 1: it is
steadier than each of them (Izmailov et al. 2018). A file is a model's model.safetensors, or averages.safetensors of a
run's checkpoint. Sizes, and discriminators if there are any, are those of MODEL. All is written in fp16; on stdout
stands the files' entry for weights_manifest.toml.
"""

from __future__ import annotations

import argparse
import hashlib
import math
from pathlib import Path

from torch import Tensor

from ugatit_cli.weights.folder import MODEL_FILES, open_model, open_tensors, save_model


def parse_share(text: str) -> tuple[Path, float]:
    """`runs/one/model/model.safetensors=0.5`."""
    path, _, share = text.rpartition("=")
    return Path(path), float(share)


def tensors_of(path: Path) -> dict[str, Tensor]:
    """All tensors of a file, in float32."""
    with open_tensors(path) as file:
        return {name: file.get_tensor(name).float().clone() for name in file.keys()}  # noqa: SIM118


def mean_generators(files: list[tuple[Path, float]]) -> dict[str, Tensor]:
    """The weighted mean of the generators in files."""
    mean: dict[str, Tensor] = {}
    for path, share in files:
        for name, tensor in tensors_of(path).items():
            mean[name] = mean[name] + share * tensor if name in mean else share * tensor
    return mean


def main() -> None:
    """Writes the folder and prints its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("files", nargs="+", type=parse_share, metavar="FILE=SHARE")
    parser.add_argument("--description", required=True, help="what it does, in words")
    parser.add_argument("--licence", required=True, help="of the weights, as weights_manifest.toml has it")
    parser.add_argument("--training", required=True, help="how it was trained, in words")
    parser.add_argument("--data", required=True, help="what it was trained on, in words")
    options = parser.parse_args()
    if not math.isclose(sum(share for _, share in options.files), 1, abs_tol=1e-6):
        parser.error("shares must add up to 1")
    model = open_model(options.model)
    provenance = {
        "description": options.description,
        "made_by": f"ugatit, whose package has it as {options.out.name}",
        "licence": options.licence,
        "training_data": options.data,
        "training": options.training,
        **{name: model.provenance[name] for name in ("trained with", "recipe", "batch size")},
    }
    save_model(
        options.out,
        model.config,
        mean_generators(options.files),
        tensors_of(model.discriminators) if model.discriminators else None,
        storage="fp16",
        provenance=provenance,
    )
    for name in sorted(set(MODEL_FILES) & {path.name for path in options.out.iterdir()}):
        data = (options.out / name).read_bytes()
        print(f'"{name}" = {{ size = {len(data)}, sha256 = "{hashlib.sha256(data).hexdigest()}" }}')


if __name__ == "__main__":
    main()
