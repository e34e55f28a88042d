"""How many faces the detector finds of those in packages' photos, and how many where there are none.

    pip download --no-deps --no-binary :all: --no-build-isolation face_recognition==1.3.0 insightface==2.1
    pip download --no-deps scikit-image==0.26.0 scikit-learn
    npm pack @vladmandic/face-api@1.7.15
    python -m benchmarks.faces *.tar.gz *.tgz *.whl

The faces of each photo were counted by eye; a blurred one that the edge of a photo cuts in half doesn't count.
"""

from __future__ import annotations

import argparse
import io
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ugatit_cli.faces.detector import detector

FACES = {
    "face_recognition-1.3.0/tests/test_images/": {
        "biden.jpg": 1,
        "obama.jpg": 1,
        "obama2.jpg": 1,
        "obama3.jpg": 1,
        "obama_partial_face.jpg": 1,
        "obama_partial_face2.jpg": 1,
    },
    "insightface-2.1/insightface/data/images/": {
        "t1.jpg": 6,
        "Tom_Hanks_54745.png": 1,
        "mask_black.jpg": 0,
        "mask_blue.jpg": 0,
        "mask_green.jpg": 0,
        "mask_white.jpg": 0,
    },
    "package/demo/": {f"sample{number}.jpg": count for number, count in enumerate((3, 3, 3, 4, 5, 4), 1)},
    "skimage/data/": {"astronaut.png": 1, "camera.png": 1},
    "sklearn/datasets/images/": {},
}
PATCHES = "skimage/data/lfw_subset.npy"


def members(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of an archive's files."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield from ((name, opened.read(name)) for name in opened.namelist() if not name.endswith("/"))
        return
    with tarfile.open(archive) as packed:
        for member in packed:
            if (file := packed.extractfile(member)) is not None:
                yield member.name, file.read()


def patches(data: bytes) -> list[tuple[str, Image.Image, int]]:
    """Scikit-image's 100 faces of 25 x 25 pixels, and as many pieces of photos without any."""
    grey = (np.load(io.BytesIO(data), allow_pickle=False) * 255).astype(np.uint8)
    return [(f"patch {i}", Image.fromarray(one).convert("RGB"), int(i < 100)) for i, one in enumerate(grey)]


def photos(archives: list[Path]) -> Iterator[tuple[str, Image.Image, int]]:
    """Name, picture and number of faces."""
    for archive in archives:
        for name, data in members(archive):
            path = PurePosixPath(name)
            counts = FACES.get(f"{path.parent}/")
            if name == PATCHES:
                yield from patches(data)
            elif counts is not None and path.suffix in {".jpg", ".png"}:
                photo = Image.open(io.BytesIO(data))
                known = path.parts[0] in {"skimage", "sklearn"} or path.name in counts
                if known and photo.mode != "I":
                    yield name, photo.convert("RGB"), counts.get(path.name, 0)


def main() -> None:
    """Prints what was missed or found wrongly, then the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archives", type=Path, nargs="+")
    sums = {"photos": [0, 0, 0, 0], "patches": [0, 0, 0, 0]}
    start = time.process_time()
    for name, photo, count in photos(parser.parse_args().archives):
        found = len(detector()(photo))
        if found != count:
            print(f"{name}: {count} faces, {found} found")
        kind = sums["patches" if name.startswith("patch ") else "photos"]
        kind[:] = np.add(kind, (1, count, min(found, count), max(0, found - count))).tolist()
    for what, (pictures, faces, found, wrong) in sums.items():
        print(f"{pictures} {what}: {found} of {faces} faces found, {wrong} where there is none")
    print(f"{time.process_time() - start:.1f} s of a core")


if __name__ == "__main__":
    main()
