"""Where weights come from: official checkpoints, the manifest, the user's model store."""
