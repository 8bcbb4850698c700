"""Hundreds of broken datasets, each of which must be refused in one line, with nothing written.

python -m benchmarks.broken_datasets [--seed=0] [--only=NUMBER] [--json=out/broken.json]

Every dataset is made from the seed and its number alone, and given to `dataset_tool.py` and to
`train.py`: the check before training, then the reading of every picture. `inspect` has to tell of
it in its page, or refuse it likewise. Whatever is not refused,
is refused in other words than one line for the one thing that is wrong, or leaves anything behind
but the hidden files with which a conversion goes on, is printed, and the exit status is 1.
"""

import hashlib
import os
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import click
from click.testing import CliRunner, Result

import dataset_tool
import train
from benchmarks import broken_containers as containers
from benchmarks import broken_files as broken
from benchmarks.broken_containers import PACK
from benchmarks.broken_files import Content
from benchmarks.common import table, write_json
from training.dataset import DatasetError, ImageFolderDataset

REPEATS = 3
LONGEST = 500  # characters of a line
SECONDS = 5.0  # that a refusal may take
BOTH, TRAINING = "both", "training"  # who has to refuse


@dataclass(frozen=True)
class Case:
    """A broken dataset: what is wrong with it, in which container, who must refuse it."""

    kind: str
    container: str
    repeat: int
    change: Callable[[Content, random.Random], None] | None
    damage: Callable[[Path, random.Random], None] | None
    refused_by: str = BOTH

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind} ({self.container} {self.repeat})"

    def make(self, place: Path, seed: int = 0) -> Path:
        """The dataset in a folder; its path."""
        rng = random.Random(f"{seed} {self.name}")
        dataset = broken.good()
        if self.change is not None:
            self.change(dataset, rng)
        path = PACK[self.container](dataset, place / "broken")
        if self.damage is not None:
            self.damage(path, rng)
        return path


def cases() -> list[Case]:
    """All of them, in a fixed order."""
    return [
        Case(kind, container, repeat, change, damage, refused_by)
        for kind, change, damage, where, refused_by in _kinds()
        for container in where
        for repeat in range(REPEATS)
    ]


def _kinds() -> Iterator[tuple]:
    every, archives = tuple(PACK), ("zip", "shards")
    for kind, change in broken.PICTURES.items():
        yield f"picture: {kind}", _on_a_picture(change), None, every, BOTH
    for kind, change in broken.MODES.items():
        yield f"picture: {kind}", _on_a_picture(change), None, every, TRAINING
    for kind, change in broken.LABELS.items():
        yield f"label: {kind}", _on_a_label(change), None, every, BOTH
    for kind, change in {**broken.LABEL_FILES, **broken.WEIGHTS}.items():
        yield f"label file: {kind}", change, None, every, BOTH
    yield "label file: labels are null", _no_labels, None, ("folder", "zip"), TRAINING
    for kind, change in broken.NAMES.items():
        where = every if kind == "no pictures" else archives
        yield f"name: {kind}", change, None, where, BOTH
    for container, kinds in (
        ("zip", containers.ZIPS),
        ("shards", containers.TARS),
        ("folder", containers.FOLDERS),
    ):
        for kind, damage in kinds.items():
            yield f"{container}: {kind}", None, damage, (container,), BOTH


def _on_a_picture(change) -> Callable[[Content, random.Random], None]:
    def damage(dataset: Content, rng: random.Random) -> None:
        name = rng.choice(sorted(dataset.files))
        dataset.files[name] = change(dataset.files[name], rng)

    return damage


def _on_a_label(change) -> Callable[[Content, random.Random], None]:
    def damage(dataset: Content, rng: random.Random) -> None:
        name = rng.choice(sorted(dataset.labels))
        dataset.labels[name] = change(dataset.labels[name], rng)

    return damage


def _no_labels(dataset: Content, rng: random.Random) -> None:
    dataset.label_file = b'{"labels": null}'


def faults_of(case: Case, seed: int = 0) -> list[str]:
    """What is not as it should be when a dataset is converted and trained with; best nothing."""
    with tempfile.TemporaryDirectory() as text:
        box = Path(text)
        (box / "in").mkdir()
        (box / "out").mkdir()
        (box / "secret.png").write_bytes(broken.encoded(broken.np.zeros((32, 32, 3), "uint8")))
        path = case.make(box / "in", seed)
        before = _state(box)
        with mock.patch.dict(os.environ, DNNLIB_CACHE_DIR=str(box / "out" / ".cache")):
            found = _timed("dataset_tool.py", lambda: _convert(path, box, case))
            found += _timed("train.py", lambda: _train(path, box))
            found += _timed("inspect", lambda: _inspect(path, box))
        after = _state(box)
        return found + [f"{name} was changed" for name in sorted(before.items() ^ after.items())]


def _timed(who: str, run: Callable[[], list[str]]) -> list[str]:
    start = time.process_time()
    found = run()
    seconds = time.process_time() - start
    if seconds > SECONDS:
        found.append(f"took {seconds:.1f} s")
    return [f"{who}: {fault}" for fault in found]


def _convert(path: Path, box: Path, case: Case) -> list[str]:
    dest = box / "out" / "made.zip"
    done = CliRunner().invoke(dataset_tool.main, [f"--source={path}", f"--dest={dest}"])
    if case.refused_by == TRAINING and done.exit_code == 0:
        dest.unlink()
        return []
    return faults(done)


def _train(path: Path, box: Path) -> list[str]:
    line = ["--cfg=demo", f"--data={path}", f"--outdir={box / 'runs'}", "--dry-run"]
    weighted = path.suffix != ".tar" and b'"weights"' in _labels_at(path)
    done = CliRunner().invoke(train.main, [*line, *["--rebalance=weights"] * weighted])
    if done.exit_code != 0:
        return faults(done)
    try:
        data = ImageFolderDataset(path, use_labels=True)
        for index in range(len(data)):
            data[index]
        data.all_weights()
    except DatasetError as error:
        return faults_of_line(str(error))
    except Exception:
        return [f"raised {traceback.format_exc(limit=-1).splitlines()[-1]}"]
    return ["was not refused"]


def _inspect(path: Path, box: Path) -> list[str]:
    """The page tells what is wrong, unless there is no dataset at all."""
    page = box / "out" / ".page.html"
    line = ["inspect", f"--source={path}", f"--dest={page}"]
    done = CliRunner().invoke(dataset_tool.main, line)
    if done.exit_code == 0 and page.is_file():
        return []
    return faults(done)


def _labels_at(path: Path) -> bytes:
    """What of the dataset may be read without a reader, to know which options it wants."""
    file = path / "dataset.json" if path.is_dir() else path
    return file.read_bytes()


def faults(done: Result) -> list[str]:
    """Of a command: one that did not refuse, or with more than one line for one problem."""
    if not isinstance(done.exception, SystemExit | None):
        return [f"raised {done.exception!r}"]
    if done.exit_code == 0:
        return ["was not refused"]
    lines = done.output.strip().splitlines()
    if done.exit_code not in (1, 2) or not lines[0].startswith("Error: "):
        return [f"status {done.exit_code}: {done.output[:LONGEST]!r}"]
    if lines[0].startswith("Error: 1 problem, nothing is written") and len(lines) == 2:
        lines = lines[1:]
    return [fault for line in lines for fault in faults_of_line(line)] + (
        [f"has {len(lines)} lines"] if len(lines) > 1 else []
    )


def faults_of_line(line: str) -> list[str]:
    """Of the text of an error."""
    if len(line) > LONGEST:
        return [f"has {len(line)} characters: {line[:80]!r}"]
    if not line.isprintable() or len(line) < 20:
        return [f"is no line for people: {line!r}"]
    return []


def _state(box: Path) -> dict[str, str]:
    """What is where, but for what is hidden below `out`."""
    found = {}
    for folder, folders, names in os.walk(box):
        if Path(folder) == box / "out":
            folders[:] = [name for name in folders if not name.startswith(".")]
            names = [name for name in names if not name.startswith(".")]
        for name in [*folders, *names]:
            path = Path(folder, name)
            plain = path.is_file() and not path.is_symlink()
            content = path.read_bytes() if plain else b""
            found[str(path.relative_to(box))] = hashlib.sha256(content).hexdigest()
    return found


@click.command()
@click.option("--seed", default=0, show_default=True, help="Other offsets and values.")
@click.option("--only", type=int, help="One dataset, by its number.")
@click.option("--json", "path", help="File for the result.")
def main(seed, only, path):
    """Prints how many datasets of each kind were refused as they should be."""
    chosen = [*enumerate(cases())]
    chosen = chosen if only is None else chosen[only : only + 1]
    made, right = Counter(), Counter()
    for number, case in chosen:
        found = faults_of(case, seed)
        group = case.kind.partition(":")[0]
        made[group] += 1
        right[group] += not found
        for fault in found:
            click.echo(f"{number} {case.name}: {fault}  (--seed={seed} --only={number})")
    rows = [dict(kind=kind, datasets=made[kind], refused=right[kind]) for kind in made]
    rows.append(dict(kind="all", datasets=made.total(), refused=right.total()))
    click.echo(table(rows))
    if path:
        write_json(path, rows=rows)
    sys.exit(made.total() != right.total())


if __name__ == "__main__":
    main()
