"""The command line: one small file per command. Only here is anything printed."""
