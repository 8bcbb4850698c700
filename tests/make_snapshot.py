"""Writes a small snapshot of today's layout, and what its networks output, to tests/data/snapshots.

`python -m tests.make_snapshot` once after a new function in training/migrations.py; commit both
files. They are never written again: they are what a user's file of that version looks like.
"""

import sys
from pathlib import Path

import numpy as np

from tests.published import published_bytes
from tests.tiny import outputs, tiny_discriminator, tiny_generator
from training.snapshots import save_snapshot

FOLDER = Path(__file__).parent / "data" / "snapshots"


def main(name: str) -> None:
    """Writes <name>.pkl and <name>.npz; a name that starts with published, the published layout."""
    path = FOLDER / f"{name}.pkl"
    if path.exists():
        sys.exit(f"{path}: exists, and an old file is never written anew")
    FOLDER.mkdir(parents=True, exist_ok=True)
    networks = {"G_ema": tiny_generator(), "D": tiny_discriminator()}
    if name.startswith("published"):
        path.write_bytes(published_bytes(networks, source_size=500))
    else:
        save_snapshot(path, {"path": "tiny.zip", "resolution": 32}, **networks)
    np.savez_compressed(path.with_suffix(".npz"), **outputs(networks))


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1])
    else:
        from training.migrations import STATE_VERSION

        main(f"version{STATE_VERSION}")
