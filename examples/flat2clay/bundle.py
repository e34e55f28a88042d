"""A run's model as it is bundled: `python examples/flat2clay/bundle.py RUN/model OUT --training TEXT`.

Generators and discriminators in fp16, a config that says where they come from, and on stdout the files' entry for
weights_manifest.toml.
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

from ugatit_cli.checkpoint import DISCRIMINATORS_FILE, GENERATORS_FILE, MODEL_FILES, open_model, save_model
from ugatit_cli.tensor_files import open_tensors

DESCRIPTION = "Flat icons and emoji to 3D clay look, and back"


def main() -> None:
    """Writes the folder and prints its files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--training", required=True, help="how it was trained, in words")
    parser.add_argument("--data", required=True, help="what it was trained on, in words")
    options = parser.parse_args()
    model = open_model(options.model)
    with open_tensors(options.model / GENERATORS_FILE) as file:
        generators = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    with open_tensors(options.model / DISCRIMINATORS_FILE) as file:
        discriminators = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    provenance = {
        "description": DESCRIPTION,
        "training_data": options.data,
        "training": options.training,
        **{name: value for name, value in model.provenance.items() if name != "pictures"},
    }
    save_model(options.out, model.config, generators, discriminators, storage="fp16", provenance=provenance)
    for name in sorted(set(MODEL_FILES) & {path.name for path in options.out.iterdir()}):
        data = (options.out / name).read_bytes()
        print(f'"{name}" = {{ size = {len(data)}, sha256 = "{hashlib.sha256(data).hexdigest()}" }}')


if __name__ == "__main__":
    main()
