"""A page in the browser and an HTTP API that translate pictures with the models of this machine."""
