"""What the protocol's rows are made of: clocks, ways, errors, loops, graphs."""

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from benchmarks.protocol import clock, loop, pictures, training_steps, volumes
from benchmarks.protocol.clock import Effort, Work
from benchmarks.protocol.exactness import apart
from benchmarks.protocol.inputs import Inputs
from benchmarks.protocol.measuring import Case, Protocol
from benchmarks.protocol.rows import Row
from benchmarks.protocol.ways import GRAPH, KERNELS, PLAIN, Way, as_graph
from benchmarks.renderer import osg_decoder
from tests.tape import Tape
from torch_utils.ops.choice import chosen_ops

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def protocol(tmp_path=None, **options):
    return Protocol(CPU, True, Inputs(tmp_path, quick=True), lambda line: None, **options)


def test_quartiles_are_those_of_the_figures():
    figures = [5.0, 1.0, 4.0, 2.0, 3.0]
    row = Row("B1", "part", PLAIN, "cpu", "float32", 1, "ms", figures, seconds=0.5, flop=1e12)
    cells = row.cells()
    assert (cells["lower"], cells["median"], cells["upper"]) == (2, 3, 4) and cells["repeats"] == 5
    assert cells["TFLOP/s"] == 2 and cells["GB/s"] is None
    assert row.line() == "B1 part, plain, float32, batch 1: 3 ms (2 to 4)"
    none = replace(row, figures=(), note="why")
    assert none.median is None and none.line().endswith("batch 1: why")


def test_inputs_are_new_each_time_and_are_not_timed(monkeypatch):
    now, made, seen = [0.0], [], []
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])

    def fresh():
        now[0] += 100
        made.append(torch.full((2,), float(len(made))))
        return made[-1]

    def run(x):
        now[0] += 1 + x[0].item()
        seen.append(x)
        return x

    seconds = clock.timed(Work(run, fresh), Effort(2, 3, math.inf), CPU)
    assert seconds == [3, 4, 5] and all(a is b for a, b in zip(made, seen, strict=True))
    assert len(clock.timed(Work(run, fresh), Effort(1, 9, 250), CPU)) == 2  # the time is up


def test_a_gpu_has_its_own_clock(monkeypatch):
    order = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            order.append("record")

        def synchronize(self):
            order.append("end")

        def elapsed_time(self, other):
            return 250.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("idle"))
    work = Work(lambda x: order.append("run"), lambda: order.append("fresh"))
    assert clock.timed(work, Effort(0, 1, 0), CUDA) == [0.25]
    assert order == ["fresh", "idle", "record", "run", "record", "end"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_results_that_are_not_finite_have_no_figure(bad):
    x = torch.zeros(3)
    x[1] = bad
    for results in (x, {"a": (x, 1)}, x.numpy(), [bad]):
        with pytest.raises(ArithmeticError, match="not all finite"):
            clock.require_finite(results)
    clock.require_finite([torch.zeros(2), None, 1.0, torch.ones(2, dtype=torch.uint8)])


def test_rows_that_fail_say_why_and_the_others_go_on():
    table = protocol()

    def broken():
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 80 GiB")

    def not_finite():
        return Work(lambda _: torch.tensor(math.nan))

    rows = [
        table.measure(Case("part", Way(), prepare, figure=float))
        for prepare in (broken, not_finite, lambda: Work(lambda _: time.sleep(0.002)))
    ]
    assert rows == table.rows and [row.median is None for row in rows] == [True, True, False]
    assert rows[0].note == "OutOfMemoryError: CUDA out of memory. Tried to allocate 80 GiB"
    assert "not all finite" in rows[1].note and rows[2].median >= 0.002
    late = protocol(deadline=0)
    assert late.measure(Case("part", Way(), broken)).note == "left out: the time is up"


def test_kernels_are_set_beside_the_plain_way():
    table = protocol()
    table.benchmark = "B1"
    plain = {precision: Way(PLAIN, precision) for precision in ("float32", "half")}
    for median, way in enumerate(plain.values(), start=2):
        table.record("part", way, 1, "ms", [float(median)])
    for precision, expected in (("float32", 2), ("half", 3), ("half + tf32", 3)):
        for implementation in (KERNELS, GRAPH):
            way = Way(implementation, precision)
            assert table.record("part", way, 1, "ms", [1.0]).plain == expected
            assert table.record("part", way, 8, "ms", [1.0]).plain is None
    assert table.rows[0].plain is None


def test_ways_choose_operators_and_rounding():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, chosen_ops()
    for way, expected in (
        (Way(PLAIN, "half"), (False, False, "torch")),
        (Way(KERNELS, "half + tf32"), (True, True, "triton")),
        (Way(GRAPH, "tf32"), (True, True, "triton")),
    ):
        with pytest.raises(KeyError), way.active():
            assert (matmul.allow_tf32, cudnn.allow_tf32, chosen_ops()) == expected
            raise KeyError
        assert (matmul.allow_tf32, cudnn.allow_tf32, chosen_ops()) == before
    assert Way(PLAIN, "tf32").network_options == {"force_fp32": True}
    assert Way(KERNELS, "half + tf32").network_options == {}


def test_what_a_device_lacks(monkeypatch):
    monkeypatch.setattr("torch_utils.ops.choice.why_not_triton", lambda: "Triton is broken")
    assert Way().why_not(CPU) is None and Way(KERNELS, "half").why_not(CPU)
    assert Way(PLAIN, "half").why_not(CPU) and Way(PLAIN, "half").why_not(CUDA) is None
    assert Way(GRAPH, "half").why_not(CUDA) == "Triton is broken"
    assert Way(PLAIN, "bf16").why_not(CUDA)
    table = protocol()
    found = table.able(Way(), Way(KERNELS, "half"), Way(KERNELS, "tf32"), Way(GRAPH, "half"))
    assert found == [Way()]
    assert [(row.implementation, row.precision) for row in table.rows] == [
        (KERNELS, "half, tf32"),
        (GRAPH, "half"),
    ]


def test_arithmetic_and_traffic_are_counted():
    a, b = torch.randn(8, 16), torch.randn(16, 4)
    flop, traffic = clock.counted(Work(lambda x: torch.relu(x @ b), lambda: a), Way())
    assert flop == 2 * 8 * 16 * 4
    assert traffic == 4 * (8 * 16 + 16 * 4 + 8 * 4) + 4 * (2 * 8 * 4)


def test_differences_are_shares_of_the_deviation():
    exact = torch.randn(10_000) * 3 + 50
    found = exact + torch.randn(10_000) * 0.03
    assert apart([found], [exact]) == pytest.approx(1, rel=0.05)
    assert apart([exact], [exact]) == 0


def test_a_function_as_a_graph_repeats_what_was_recorded():
    calls, tape = [], Tape()

    def square(x):
        calls.append(1)
        return x * x

    graph = as_graph(square, tape)
    for k in range(6):
        assert torch.equal(graph(torch.full((2,), float(k))), torch.full((2,), float(k * k)))
    assert len(tape.lengths) == 1 and len(calls) == 4  # two plain ones, the check, the recording

    wrong = as_graph(lambda x: x * x, lambda work: (lambda: None, work() * 2))
    with pytest.raises(RuntimeError, match="a repetition is 100.0 % off"):
        for _ in range(3):
            wrong(torch.ones(2))


@pytest.fixture
def small(tmp_path):
    """A protocol of the smallest networks."""
    return protocol(tmp_path)


def test_phases_of_a_loop_are_recorded_and_a_refusal_is_an_error(small, monkeypatch):
    tapes = []

    def recorder(device):
        tapes.append(Tape())
        return tapes[-1]

    monkeypatch.setattr(loop, "cuda_recorder", recorder)
    opened = training_steps.opened(small, 4, 8, Way(GRAPH, "half"))
    tapes[0].buffers = opened.tracked
    number = 3  # R1, whose gradients are the same each time the numbers are
    for _ in range(5):
        opened.step(number, opened.reals())
    assert len(tapes[0].lengths) == 1

    def failing(device):
        def record(work):
            raise RuntimeError("operation not permitted when stream is capturing")

        return record

    monkeypatch.setattr(loop, "cuda_recorder", failing)
    opened = training_steps.opened(small, 4, 8, Way(GRAPH, "half"))
    with pytest.raises(RuntimeError, match="Dreg runs without a CUDA graph: operation not"):
        for _ in range(4):
            opened.step(number, opened.reals())


def test_phases_have_their_turns_in_a_loop(small, monkeypatch):
    opened, steps = training_steps.opened(small, 4, 8, Way()), []
    assert [phase.name for phase in opened.phases] == list(training_steps._PHASES)
    for name in ("G", "G_ema"):
        assert opened.networks[name].neural_rendering_resolution == 8
    before = [p.clone() for p in opened.networks["G_ema"].parameters()]
    opened.iterate(1)
    after = list(opened.networks["G_ema"].parameters())
    assert any(not torch.equal(x, y) for x, y in zip(before, after, strict=True))

    monkeypatch.setattr(opened, "step", lambda number, reals: steps.append(number))
    opened.iterate(training_steps._CYCLE)
    assert [steps.count(number) for number in range(4)] == [
        training_steps._CYCLE / phase.interval for phase in opened.phases
    ]
    counts = iter([160, 40, 80, 32, 7])  # of the four phases and of the average
    monkeypatch.setattr(loop, "launched", lambda work, device: next(counts))
    assert opened.launches() == 160 + 40 / 4 + 80 + 32 / 16 + 7


def test_launches_are_the_drivers_calls(monkeypatch):
    names = ["cudaLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaMemcpyAsync", "aten"]

    class Profile:
        def __init__(self, activities):
            self.found = [SimpleNamespace(name=name) for name in names]

        def __enter__(self):
            return self

        def __exit__(self, *problem):
            return None

        def events(self):
            return self.found

    monkeypatch.setattr(torch.profiler, "profile", Profile)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    assert loop.launched(lambda: None, CUDA) == 3
    names[:] = ["aten"]
    with pytest.raises(RuntimeError, match="shows no launches"):
        loop.launched(lambda: None, CUDA)
    x = torch.zeros(2)
    assert loop.launched(lambda: (x + 1).view(1, 2).mul_(2), CPU) == 2


class Plan(Protocol):
    """The rows of a GPU with all kernels, none of which is measured."""

    def able(self, *ways):
        return [way for way in ways if way.precision != "bf16"]

    def measure(self, case):
        return self.add(replace(self._row(case), figures=[2.0]))


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """`plan(benchmark)` -> what a GPU would measure, as {(part, batch): {way: row}}."""
    monkeypatch.setattr(volumes, "Renderings", lambda kind, side, batch, device: SCENES)
    networks = Inputs(tmp_path, quick=True).networks(CPU)
    inputs = Inputs(tmp_path, data="cars.zip")
    monkeypatch.setattr(inputs, "networks", lambda device: networks)
    monkeypatch.setattr(pictures, "face_camera", lambda: torch.zeros(1, 25))
    monkeypatch.setattr(torch.Tensor, "to", lambda self, *args, **kwargs: self)

    def rows(benchmark):
        found, protocol = {}, Plan(CUDA, False, inputs, lambda line: None)
        benchmark(protocol)
        for row in protocol.rows:
            found.setdefault((row.part, row.batch), {})[row.implementation, row.precision] = row
        return found

    return rows


SCENES = SimpleNamespace(decoder=osg_decoder())


def test_a_gpu_measures_pictures_and_renderers_of_all_sizes(plan):
    rows = plan(pictures.b1)
    for part in ("planes given 64^2", "planes given 128^2", "picture 64^2", "picture 128^2"):
        for batch in (1, 8, 32):
            assert {PLAIN, KERNELS, GRAPH} == {way for way, _ in rows[part, batch]}
    best = rows["planes given 128^2", 1][GRAPH, "half + tf32"]
    assert (best.floor, best.target, best.flop) == (0.74, 1.5, pytest.approx(210.8e9))
    assert rows["picture 64^2", 8][PLAIN, "half"].flop == pytest.approx(8 * 294.6e9)
    assert rows["picture 64^2", 1][PLAIN, "half"].target is None

    rows = plan(volumes.b3)
    for side in (64, 128, 256, 512):
        for part in ("forward", "backward"):
            assert len(rows[f"{part} {side}^2", 1]) == 5
    fast = rows["forward 64^2", 1][KERNELS, "float16 planes"]
    assert (fast.floor, fast.target) == (0.06, 0.10)
    assert fast.flop == pytest.approx(3.3e9, rel=0.02)
    assert rows["backward 64^2", 1][PLAIN, "float32"].target == 3 * 2.0


def test_a_gpu_measures_training_at_published_sizes(plan):
    rows = plan(training_steps.b4)
    for phase in ("Gmain", "Greg", "Dmain", "Dreg"):
        for batch in (4, 32):
            assert len(rows[f"{phase}, ffhq 64^2", batch]) == 4
    rows = plan(training_steps.b5)
    graph = (GRAPH, "half + tf32")
    assert rows["whole loop, ffhq 128^2", 32].keys() == {graph, (KERNELS, "half + tf32")}
    assert rows["an iteration, ffhq 64^2", 4][graph].unit == "launches"
    assert len(rows["whole loop, ffhq 64^2", 32]) == 4
    rows = plan(training_steps.b6)
    assert rows["training, ffhq 128^2", 32][graph].target == 40
    assert rows["training, ffhq 128^2", 32][graph].unit == "GB"
    rows = plan(volumes.b7)
    assert rows["512^3 from tables", 1][PLAIN, "float32"].target == 0.1
    assert len(plan(volumes.b8)["video of 60 frames, 64^2", 1]) == 5


def test_a_gpu_trains_with_the_published_options(tmp_path):
    big = Protocol(CUDA, False, Inputs(tmp_path, data="cars.zip"), print)
    found = training_steps.arguments(big, 32, 128, Way(PLAIN, "tf32"))
    assert "--cfg=ffhq" in found and "--d_num_fp16_res=0" in found and "--batch=32" in found
    assert "--neural_rendering_resolution_initial=128" in found and "--data=cars.zip" in found
    half = training_steps.arguments(big, 32, 128, Way(KERNELS, "half + tf32"))
    assert not any("fp16" in option for option in half)
    assert big.effort.warmups >= 5 and big.effort.repeats == 20
