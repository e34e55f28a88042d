"""Broken files of each kind; `python -m tests.fuzz` tries many."""

from tests.fuzz import checkpoints, data, pictures, texts

# A kind of file is a line in one of these tables.
TARGETS = {**texts.TARGETS, **pictures.TARGETS, **checkpoints.TARGETS, **data.TARGETS}
