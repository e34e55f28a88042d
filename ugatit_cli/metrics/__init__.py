"""How good translations are, in figures: features of pictures, distances between sets of them, and pairs."""
