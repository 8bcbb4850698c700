"""Opening snapshots, under the name that programs for the original layout import."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # to run as a script without an installation

from eg3d.legacy import load_network_pkl, main

__all__ = ["load_network_pkl", "main"]

if __name__ == "__main__":
    main()
