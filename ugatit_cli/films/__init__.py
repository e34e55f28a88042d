"""Films: frames through a model, everything else of the file as it was."""
