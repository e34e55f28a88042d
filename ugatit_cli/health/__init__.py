"""Whether ugatit works on this machine, and what that has: facts for reports, and what is wrong."""
