"""Faces in pictures: where they are, and crops of them."""
