"""The benchmark protocol, B1 to B13, as one command: see `__main__.py`."""
