"""Pictures: reading and writing files of any kind, sizes, names of results, drawing. No torch."""
