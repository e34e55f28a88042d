"""The networks of U-GAT-IT: torch only, one network per file, in the paper's order."""
