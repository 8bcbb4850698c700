"""Writes what can be mended of a dataset as a new one."""

import json
from contextlib import closing
from pathlib import Path

from dataset_preprocessing.conversion.archive import Destination
from dataset_preprocessing.conversion.sources import PROVENANCE
from dataset_preprocessing.inspection.survey import Survey
from training.label_file import LABEL_FILE


class FixError(ValueError):
    """A dataset cannot be mended; the message is one line."""


def write_fixed(found: Survey, dest: str | Path) -> tuple[int, int]:
    """Pictures as they are, byte for byte, with mended labels, at a new place.

    Left out are pictures that cannot be decoded or are of another size or colour than most, that
    have no camera though others have, that are near-empty, or there already with the same pixels.
    Pictures that are almost alike stay: they may be two views.

    Returns how many pictures are kept and left out. Raises FixError, DestinationError.
    """
    if Path(dest).suffix.lower() == ".tar":
        raise FixError(f"--fix={dest}: must be a .zip or a folder; dataset_tool.py makes shards")
    bad = set(found.empty) | {other for _, other in found.exact}
    if found.labels:
        bad |= set(found.problems)
    else:
        bad |= {number for number in range(len(found.names)) if number not in found.looks}
    kept = [number for number in range(len(found.names)) if number not in bad]
    if not kept:
        raise FixError(f"--fix={dest}: no picture of {found.path} is left to be written")
    names = [found.names[number] for number in kept]
    content = dict(labels=None)
    if found.labels:
        labels = [found.labels[number].tolist() for number in kept]
        content["labels"] = [list(pair) for pair in zip(names, labels, strict=True)]
    if found.source.weights is not None:
        weights = [found.source.weights[number] for number in kept]
        content["weights"] = [list(pair) for pair in zip(names, weights, strict=True)]
    if found.source.classes is not None:
        classes = [found.source.classes[number] for number in kept]
        content["classes"] = [list(pair) for pair in zip(names, classes, strict=True)]
        content["num_classes"] = found.source.num_classes
    if found.source.provenance is not None:
        content[PROVENANCE] = found.source.provenance
    key = dict(fixed=str(Path(found.path).resolve()), content=content)
    with closing(Destination(dest, key)) as destination:
        for number, name in zip(kept, names, strict=True):
            if name not in destination.kept:
                destination.add(name, found.source.read(number))
        destination.add(LABEL_FILE, json.dumps(content).encode())
        destination.finish()
    return len(kept), len(bad)
