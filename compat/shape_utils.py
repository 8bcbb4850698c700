"""Writing meshes, under the name that programs for the original layout import."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # to run as a script without an installation

from eg3d.shape_files import convert_mrc, convert_sdf_samples_to_ply, main

__all__ = ["convert_mrc", "convert_sdf_samples_to_ply", "main"]

if __name__ == "__main__":
    main()
