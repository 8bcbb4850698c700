"""Hostile files of every kind are opened or refused, and the watch would see what they do."""

import pickle
import sys

import pytest

from benchmarks import hostile_files
from benchmarks.hostile_files import KINDS, Worker, faults, kind_of, make, run, summary
from benchmarks.hostile_payloads import CALLS, TRAP
from tests.published import Call, Global, written

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel counts the memory")


def test_hostile_files():
    """`python -m benchmarks.hostile_files` opens sixteen times as many."""
    outcomes = run(seed=7, indices=range(150))
    assert [outcome.index for outcome in outcomes] == list(range(150))
    assert {outcome.kind for outcome in outcomes} == set(KINDS)
    bad = [(o.index, o.kind, o.faults) for o in outcomes if o.faults]
    assert not bad, bad
    total = summary(outcomes)[-1]
    assert total["files"] == 150 == total["opened"] + total["refused"]
    assert total["opened"] and total["refused"] > 100 and total["executed"] == 0


def test_a_file_depends_on_its_seed_and_number_alone():
    for index in range(60):
        assert make(3, index) == make(3, index)
    assert make(3, 1) != make(4, 1) and kind_of(5) == kind_of(5 + 60)


def test_the_watch_sees_what_files_do(tmp_path):
    """A file that is trusted runs its code: what comes of it is reported, so `executed` counts."""
    module, name, arguments = CALLS[0]
    payload = {"G_ema": Call(Global(module, name), arguments)}
    worker = Worker(str(tmp_path))
    try:
        seen = worker.open(written(payload), opener="trusting")
        assert any(event.startswith("os.system") for event in seen["events"])
        assert (tmp_path / TRAP).exists()
        assert any("did os.system" in fault for fault in faults(seen, 100))
        large = worker.open(pickle.dumps(bytearray(200 * 2**20)), opener="trusting")
        assert large["peak"] > 150 * 2**20
        again = worker.open(written(payload))
        assert again["events"] == again["crashes"] == [] and len(again["lines"]) == 3
        died = worker.open(written(Call(Global("os", "_exit"), (3,))), opener="trusting")
        assert died == {"crashes": ["the process died: 3"]}
    finally:
        worker.close()


@pytest.mark.parametrize(
    "change, words",
    [
        ({"lines": ["a\nb"]}, "not printable"),
        ({"texts": ["\x1b[2J"]}, "not printable"),
        ({"lines": ["é"]}, "not printable"),
        ({"lines": ["x" * 1001]}, "1001 characters"),
        ({"crashes": ["KeyError: 1"]}, "KeyError"),
        ({"events": ["import os"]}, "did import os"),
        ({"seconds": 5.1}, "took 5.1 s"),
        ({"peak": 2**30}, "1024 MiB"),
    ],
)
def test_faults(change, words):
    good = {"opened": 3, "lines": ["x: is damaged"], "texts": [], "crashes": [], "events": []}
    good |= {"seconds": 0.1, "peak": 10**6}
    assert list(faults(good, 1000)) == []
    assert words in " ".join(faults({**good, **change}, 1000))


def test_a_fault_is_told_and_can_be_repeated(monkeypatch, capsys):
    outcome = hostile_files.Outcome(12, "archives", 9, {"crashes": ["x"]}, ["x"])
    monkeypatch.setattr(hostile_files, "run", lambda *args: [outcome])
    monkeypatch.setattr(sys, "argv", ["hostile_files", "--seed=5"])
    with pytest.raises(SystemExit) as caught:
        hostile_files.main(standalone_mode=False)
    assert caught.value.code == 1
    assert "python -m benchmarks.hostile_files --seed=5 --only=12" in capsys.readouterr().out
