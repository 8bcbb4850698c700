"""A dataset in which pictures from the side are more frequent: they are there several times.

The range of yaw is cut into nine equal arcs. The one in the middle stays as it is, the next ones
are doubled, and so on outwards, up to 16 copies. That gives the published numbers of copies from
the published numbers of pictures. `--rebalance=yaw` of train.py needs no copies.
"""

import hashlib
import zipfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import tqdm

from dataset_preprocessing.conversion.archive import Destination
from dataset_preprocessing.faces.labels import Entries, labels_file, read_labels
from dataset_preprocessing.faces.steps import PreprocessingError, problems_error
from dataset_preprocessing.faces.values import parse_object
from training.label_file import LABEL_FILE
from training.pose_angles import pose_angles

ARCS = 9
PUBLISHED_MD5 = "bae1b0b52267670f1735fef9092b5c11"  # of the dataset.json of rebalanced FFHQ
_MOST = 1024


@dataclass(frozen=True)
class Rebalanced:
    """Numbers of pictures before and after, and whether the labels are those of the published
    dataset."""

    before: int
    after: int
    is_published: bool


def rebalance(
    source: str | Path,
    dest: str | Path,
    table: str | Path | None = None,
    arcs: int = ARCS,
    verbose: bool = False,
) -> Rebalanced:
    """Writes a zip with several copies NAME_00.png, NAME_01.png, ... of the pictures of another.

    Args:
        table: a num_replicas.json, {number of the label: copies}; else they follow from yaw.
        arcs: odd number of arcs of yaw.

    Raises PreprocessingError; OSError if `dest` is there or cannot be written.
    """
    source, names = Path(source), _names(Path(source))
    with zipfile.ZipFile(source) as archive:
        entries, provenance = read_labels(archive.read(LABEL_FILE), f"{source}: {LABEL_FILE}")
        missing = [f"{source}: {name}: no such picture" for name, _ in entries if name not in names]
        if missing:
            raise problems_error(missing)
        if table is None:
            labels = np.array([label for _, label in entries], dtype=np.float64)
            copies = copies_by_yaw(pose_angles(labels).yaw, arcs)
        else:
            copies = read_table(table, len(entries))
        content = labels_file(_replicated(entries, copies), provenance)
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        key = [str(source.resolve()), source.stat().st_size, digest]
        with closing(Destination(dest, key)) as destination:
            _copy(archive, destination, entries, copies, verbose)
            if LABEL_FILE not in destination.kept:
                destination.add(LABEL_FILE, content)
            destination.finish()
    return Rebalanced(len(entries), sum(copies), digest == PUBLISHED_MD5)


def copies_by_yaw(yaw: np.ndarray, arcs: int = ARCS) -> list[int]:
    """Copies of each picture: 2 to the number of arcs that its yaw [N] is from the middle one. The
    arcs cover the largest yaw to either side; 0 is the front."""
    most = np.abs(yaw).max(initial=0)
    if most == 0:
        return [1] * len(yaw)
    arc = np.floor((yaw + most) / (2 * most) * arcs).astype(int).clip(0, arcs - 1)
    return (2 ** np.abs(arc - arcs // 2)).tolist()


def read_table(path: str | Path, count: int) -> list[int]:
    """Copies of each of `count` pictures from a num_replicas.json. Raises PreprocessingError."""
    path = Path(path)
    if not path.is_file():
        raise PreprocessingError(
            f"{path}: no such file; it is the num_replicas.json that the EG3D authors publish"
        )
    table = parse_object(path.read_bytes(), path, "{number of the label: copies, ...}")
    copies = [table.get(str(number)) for number in range(count)]
    wrong = [
        f"{path}: label {number} has {value!r} copies, must be a number from 1 to {_MOST}"
        for number, value in enumerate(copies)
        if type(value) is not int or not 1 <= value <= _MOST
    ]
    if len(table) != count:
        wrong.insert(0, f"{path}: is of {len(table)} labels, the dataset has {count}")
    if wrong:
        raise problems_error(wrong)
    return copies


def replica_name(name: str, replica: int) -> str:
    """`a/b.png` and 3 to `a/b_03.png`."""
    path = PurePosixPath(name)
    return path.with_name(f"{path.stem}_{replica:02d}{path.suffix}").as_posix()


def _names(source: Path) -> set[str]:
    try:
        with zipfile.ZipFile(source) as archive:
            names = set(archive.namelist())
    except FileNotFoundError:
        raise PreprocessingError(f"{source}: no such file") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise PreprocessingError(f"{source}: not a readable zip file ({error})") from None
    if LABEL_FILE not in names:
        raise PreprocessingError(f"{source}: has no {LABEL_FILE}; labels are needed")
    return names


def _replicated(entries: Entries, copies: list[int]) -> Entries:
    return [
        (replica_name(name, replica), label)
        for (name, label), count in zip(entries, copies, strict=True)
        for replica in range(count)
    ]


def _copy(
    archive: zipfile.ZipFile,
    destination: Destination,
    entries: Entries,
    copies: list[int],
    verbose: bool,
) -> None:
    pairs = zip(entries, copies, strict=True)
    disable = None if verbose else True
    for (name, _), count in tqdm.tqdm(pairs, "rebalancing", len(copies), disable=disable):
        names = [replica_name(name, replica) for replica in range(count)]
        names = [copy for copy in names if copy not in destination.kept]
        if names:
            content = archive.read(name)
            for copy in names:
                destination.add(copy, content)
