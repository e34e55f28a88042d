"""Whatever talks to a network: the Hub, files at an address, and how they get onto this machine."""
