"""The protocol's command: every benchmark has its rows, on tiny networks; wrong options."""

import json
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from benchmarks.protocol import __main__ as command
from benchmarks.protocol.__main__ import BENCHMARKS, main
from benchmarks.protocol.inputs import Inputs
from benchmarks.protocol.measuring import Protocol
from benchmarks.protocol.surroundings import new_process
from benchmarks.protocol.ways import Way
from dataset_preprocessing.procedural import make_dataset

COLUMNS = (
    *("benchmark", "part", "implementation", "device", "precision", "batch", "median", "unit"),
    *("lower", "upper", "repeats", "TFLOP/s", "GB/s", "floor", "target", "plain", "note"),
)
# Words of the parts that a CPU has figures of.
PARTS = {
    "B1": ["planes given 8^2", "picture 8^2"],
    "B2": ["backbone", "renderer 8^2", "super-resolution", "discriminator"],
    "B3": ["forward 8^2", "backward 8^2"],
    "B4": [f"{phase}, demo 8^2" for phase in ("Gmain", "Greg", "Dmain", "Dreg")],
    "B5": ["whole loop, demo 8^2", "an iteration, demo 8^2"],
    "B6": ["training, demo 8^2"],
    "B7": ["8^3 from tables", "8^3 point by point"],
    "B8": ["video of 1 frames, 8^2"],
    "B9": ["generator, demo", "detector, demo", "generated pictures, whole pass, demo"],
    "B10": ["32^2 pictures, 0 workers", "32^2 pictures, out of memory's cache"],
    "B11": ["gen_samples.py, 64^2"],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(what is printed, the JSON file) of all benchmarks."""
    path = tmp_path_factory.mktemp("protocol") / "rows.json"
    result = CliRunner().invoke(main, ["--quick", "--device=cpu", f"--json={path}"])
    assert result.exit_code == 0, result.output
    return result.output, json.loads(path.read_text())


def test_every_benchmark_has_rows_that_name_all_columns(run):
    _, found = run
    assert all(tuple(row) == COLUMNS for row in found["rows"])
    assert {row["benchmark"] for row in found["rows"]} == set(BENCHMARKS)
    assert set(BENCHMARKS) == {f"B{n}" for n in range(1, 14)}
    figures = {(r["benchmark"], r["part"]) for r in found["rows"] if r["median"] is not None}
    wanted = {(name, part) for name, parts in PARTS.items() for part in parts}
    assert wanted <= figures


def test_what_has_no_figure_has_a_reason_and_nothing_failed(run):
    _, found = run
    for row in found["rows"]:
        assert (row["median"] is None) == (row["repeats"] == 0), row
        assert row["median"] is None or 0 < row["lower"] <= row["median"] <= row["upper"], row
        if row["median"] is None:
            assert row["part"] == "all" and "Error" not in row["note"] and row["note"], row
    lacking = {(r["benchmark"], r["implementation"]) for r in found["rows"] if not r["repeats"]}
    for name in ("B1", "B4", "B5"):
        assert {(name, "kernels"), (name, "kernels + graph")} <= lacking


def test_the_table_is_the_file(run):
    output, found = run
    lines = [line for line in output.splitlines() if line.startswith("| B")]
    titles = next(line for line in output.splitlines() if line.startswith("| benchmark"))
    assert tuple(titles.strip("| ").split(" | ")) == COLUMNS
    assert len(lines) == len(found["rows"])
    for line, row in zip(lines, found["rows"], strict=True):
        cells = [cell.strip() for cell in line[1:-1].split("|")]
        for cell, value in zip(cells, row.values(), strict=True):
            shown = "" if value is None else f"{value:.3f}" if isinstance(value, float) else value
            assert cell == str(shown)
    assert found["about"] == {"device": "cpu"} and found["machine"]["torch"] == torch.__version__
    assert found["machine"]["command"].startswith("python -m ")


def test_rows_are_printed_before_the_table(run):
    output, found = run
    before = output.partition("\n| benchmark")[0].splitlines()
    order = list(dict.fromkeys(line.split()[0] for line in before if line.startswith("B")))
    assert order == list(BENCHMARKS)[: len(order)] and order[:4] == ["B1", "B3", "B4", "B5"]
    assert sum(line.startswith("B") for line in before) == len(found["rows"])


@pytest.mark.gpu
def test_a_gpu_has_figures_of_kernels_and_graphs(tmp_path):
    path = tmp_path / "rows.json"
    done = CliRunner().invoke(main, ["--quick", "--device=cuda", f"--json={path}"])
    assert done.exit_code == 0, done.output
    rows = json.loads(path.read_text())["rows"]
    failed = [row for row in rows if "Error" in row["note"]]
    assert not failed
    ways = {(row["benchmark"], row["implementation"]) for row in rows if row["repeats"]}
    for name in ("B1", "B4", "B5", "B6", "B8"):
        assert {(name, "plain"), (name, "kernels"), (name, "kernels + graph")} <= ways


def test_images_a_second_are_those_of_the_loop(run):
    _, found = run
    rows = {row["unit"]: row["median"] for row in found["rows"] if row["benchmark"] == "B5"}
    assert rows["images/s"] * rows["s/kimg"] == pytest.approx(1000)


def test_only_some_and_a_benchmark_that_fails(tmp_path, monkeypatch):
    def broken(protocol):
        raise RuntimeError("no\nluck")

    monkeypatch.setitem(command.BENCHMARKS, "B4", broken)
    path = tmp_path / "new" / "rows.json"
    done = CliRunner().invoke(
        main, ["--quick", "--device=cpu", "--only=b13, B4,B7", f"--json={path}"]
    )
    assert done.exit_code == 0, done.output
    rows = json.loads(path.read_text())["rows"]
    assert list(dict.fromkeys(row["benchmark"] for row in rows)) == ["B4", "B7", "B13"]
    assert rows[0]["note"] == "RuntimeError: no luck" and rows[0]["median"] is None
    # B1 and B2 were not asked for: B13 measures the processor itself.
    parts = {row["part"] for row in rows if row["benchmark"] == "B13" and row["repeats"]}
    assert {*PARTS["B1"], *PARTS["B2"], *PARTS["B7"]} <= parts


def test_data_that_is_given(tmp_path):
    make_dataset(tmp_path / "mine.zip", num_images=5, resolution=32, seed=1)
    arguments = ["--quick", "--device=cpu", "--only=B4", f"--data={tmp_path / 'mine.zip'}"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0 and "B4 Dreg, demo 8^2" in done.output, done.output
    assert "Error" not in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--only=B1,B14"], "'B14' must be one of B1 to B13"),
        (["--minutes=0"], "--minutes"),
        (["--data=nowhere.zip"], "nowhere.zip: no such file"),
        (["--json=setup.cfg/x.json"], "setup.cfg"),
        (["--device=cuda"], "there is no CUDA device; use cpu"),
    ],
)
def test_wrong_options_are_one_line(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.cfg").touch()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    done = CliRunner().invoke(main, ["--quick", *options])
    assert done.exit_code != 0 and words in done.output.splitlines()[-1]
    assert "\nB1 " not in f"\n{done.output}"


def test_a_process_that_fails_is_told_by_its_last_line(tmp_path, monkeypatch):
    def run(arguments, **options):
        assert "--seeds=7" in arguments and "--ops=torch" in arguments
        return SimpleNamespace(returncode=1, stderr="Traceback\nError: none.pkl: no such file\n")

    monkeypatch.setattr("subprocess.run", run)
    table = Protocol(torch.device("cpu"), True, Inputs(tmp_path), print)
    work = new_process(table, Way(), tmp_path / "none.pkl", iter([7]))
    with pytest.raises(RuntimeError, match=r"gen_samples.py: Error: none\.pkl: no such file"):
        work.run(work.fresh())
