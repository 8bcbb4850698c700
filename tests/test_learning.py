"""The framework learns: the demo preset on procedural cars, from the command to the pictures.

About ten minutes on two cores; `pytest -m slow -s tests/test_learning.py` shows the curve.
"""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.learning import Judge, find_snapshots, learning_curve, report
from dataset_preprocessing.procedural import make_dataset
from training.dataset import ImageFolderDataset

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_demo_learns_cars(tmp_path):
    data, runs = tmp_path / "cars.zip", tmp_path / "runs"
    make_dataset(data, num_images=2000)
    command = ["train.py", "--cfg=demo", f"--data={data}", f"--outdir={runs}"]
    subprocess.run([sys.executable, *command], cwd=ROOT, check=True)
    (run_dir,) = runs.iterdir()
    found = find_snapshots(run_dir)
    assert len(found) >= 3

    # Measuring takes a while as well: five points of the curve are enough.
    last = len(found) - 1
    chosen = [found[i] for i in sorted({0, 1, last // 3, 2 * last // 3, last})]
    judge = Judge(ImageFolderDataset(data, use_labels=True))
    rows, references = learning_curve(judge, chosen)
    print(f"\n{report(rows, references)}")
    assert_learned(rows, references)


def assert_learned(rows, references):
    """What the rows of a run that learned have in common, the first from before any learning."""
    first, early, last = rows[0], rows[1], rows[-1]
    assert first["kimg"] == 0 < early["kimg"] < last["kimg"]
    assert all(math.isfinite(row["distance"]) for row in rows)

    assert last["distance"] <= first["distance"] / 10
    # Ten times is easily had, for the first pictures are worse than blank ones: a model that knew
    # the mean picture and nothing else would reach it too. One that makes cars is far below that,
    assert last["distance"] <= references["distance of mean picture"] / 2
    # and goes on learning after the first snapshots.
    assert last["distance"] <= 0.75 * early["distance"]

    # Measured: 97.5 % after two thousand pictures, 100 % at the end, as much as of other true cars.
    # These fill 70 % of the depths that rays search, so that depths without meaning fail.
    assert last["inside"] >= 0.99
    assert 0.1 < last["opaque"] < 0.4
    # A flat picture that faces the camera is inside the range as well, but correlates with nothing.
    assert last["depth correlation"] >= 0.4 * references["depth correlation, other cars"]


ROWS = [  # of a run of the demo
    {"kimg": 0, "distance": 50.681, "opaque": 0.0, "inside": None, "depth correlation": None},
    {"kimg": 1, "distance": 1.598, "opaque": 0.323, "inside": 1.0, "depth correlation": 0.551},
    {"kimg": 6, "distance": 0.688, "opaque": 0.187, "inside": 1.0, "depth correlation": 0.606},
]
REFERENCES = {"distance of mean picture": 3.192, "depth correlation, other cars": 0.738}


def test_a_recorded_run_has_learned():
    assert_learned(ROWS, REFERENCES)


@pytest.mark.parametrize(
    "row, change",
    [
        (0, {"distance": 6.0}),
        (1, {"distance": 0.8}),
        (2, {"distance": 1.3}),
        (2, {"distance": float("nan")}),
        (2, {"inside": 0.7}),
        (2, {"opaque": 0.0}),
        (2, {"opaque": 0.9}),
        (2, {"depth correlation": 0.0}),
    ],
)
def test_a_run_that_lacks_something_has_not(row, change):
    rows = [{**found, **(change if i == row else {})} for i, found in enumerate(ROWS)]
    with pytest.raises(AssertionError):
        assert_learned(rows, REFERENCES)


def test_knowing_the_mean_picture_is_not_enough():
    rows = [*ROWS[:1], {**ROWS[1], "distance": 4.5}, {**ROWS[2], "distance": 3.1}]
    with pytest.raises(AssertionError):
        assert_learned(rows, REFERENCES)
