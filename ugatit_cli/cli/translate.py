"""`ugatit translate`: pictures and folders of pictures through a model."""

from __future__ import annotations

from ugatit_cli.cli import pictures
from ugatit_cli.cli.options import PictureOptions, options_of


@options_of(PictureOptions)
def translate(options: PictureOptions) -> None:
    """Translate pictures, or whole folders, to the other domain.

    Results keep their picture's name, size, transparency and animation; folders are mirrored.

    Examples:

    `ugatit translate icon.png -o clay.png`

    `ugatit translate ./selfies --model selfie2anime -o out/`

    `ugatit translate photos/ "more/*.jpg" --to anime --model my-model -o out/ --format webp --skip-existing`

    `cat icon.png | ugatit translate - > clay.png`
    """
    found = pictures.find(options)
    pictures.check_format(found.jobs, options.format)
    prepared = pictures.prepare(options, found)
    from ugatit_cli.outputs.base import Translation  # not sooner: with NumPy, after all that is wrong

    pictures.run(prepared, Translation()).finish(options.output)
