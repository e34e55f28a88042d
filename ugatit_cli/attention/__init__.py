"""Where the networks look: maps as numbers, and the words and colours for them."""
