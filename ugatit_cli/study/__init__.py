"""The study: a page on which people choose between methods' results, and the count of their answers."""
