"""Ranks from the environments of launchers; jobs as they are submitted, signalled and requeued."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from training.cluster import (
    ClusterError,
    Ranks,
    TrainingJob,
    expand_hosts,
    launch_settings,
    rank_from_environment,
    submit_slurm,
)
from training.stopping import EXIT_STATUS

ROOT = Path(__file__).parent.parent.parent

# -- Lists of hosts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, hosts",
    [
        ("gpu1", ["gpu1"]),
        ("gpu[003-005,12],login1", ["gpu003", "gpu004", "gpu005", "gpu12", "login1"]),
        ("a,b-2,c.example.org", ["a", "b-2", "c.example.org"]),
        ("n[9-11]", ["n9", "n10", "n11"]),
        ("n[098-101]", ["n098", "n099", "n100", "n101"]),
        ("r[1-2]n[01-02]-ib", ["r1n01-ib", "r1n02-ib", "r2n01-ib", "r2n02-ib"]),
        ("[1,3]", ["1", "3"]),
    ],
)
def test_lists_of_hosts(text, hosts):
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize(
    "text", ["", ",", "a,", "a[1-2", "a1-2]", "a[]", "a[2-1]", "a[x]", "a[1-]"]
)
def test_what_is_no_list_of_hosts(text):
    with pytest.raises(ClusterError, match=r"is no list of (hosts|numbers)") as error:
        expand_hosts(text)
    assert repr(text) in str(error.value) and "\n" not in str(error.value)


# -- Being launched -------------------------------------------------------------------------------

TORCHRUN = dict(RANK="9", WORLD_SIZE="16", LOCAL_RANK="1", MASTER_ADDR="a", MASTER_PORT="29500")
SRUN = dict(
    SLURM_PROCID="9",
    SLURM_NTASKS="32",
    SLURM_STEP_NUM_TASKS="16",
    SLURM_LOCALID="1",
    SLURM_STEP_ID="0",
    SLURM_JOB_ID="123456",
    SLURM_JOB_NODELIST="login1,gpu[003-005]",
    SLURM_STEP_NODELIST="gpu[003-004]",
)


def without(environ, *names):
    return {name: value for name, value in environ.items() if name not in names}


def test_torchrun():
    assert rank_from_environment(TORCHRUN) == Ranks(9, 16, 1, "a", 29500)
    assert rank_from_environment(SRUN | TORCHRUN) == Ranks(9, 16, 1, "a", 29500)


def test_srun():
    port = 15000 + 123456 % 15000
    assert rank_from_environment(SRUN) == Ranks(9, 16, 1, "gpu003", port)
    older = without(SRUN, "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST")
    assert rank_from_environment(older) == Ranks(9, 32, 1, "login1", port)
    chosen = SRUN | dict(MASTER_ADDR="b", MASTER_PORT="5")
    assert rank_from_environment(chosen) == Ranks(9, 16, 1, "b", 5)


def test_ports_of_jobs():
    def port(job):
        return rank_from_environment(SRUN | {"SLURM_JOB_ID": str(job)}).master_port

    ports = [port(job) for job in range(1, 30000, 7)]
    assert all(1024 < p < 32768 for p in ports) and port(7) != port(8)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        dict(MASTER_ADDR="a", MASTER_PORT="1", SLURM_JOB_ID="1"),
        SRUN | dict(SLURM_STEP_NUM_TASKS="1", SLURM_JOB_NODELIST=""),
        without(SRUN | dict(SLURM_NTASKS="1"), "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID"),
        without(SRUN, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_STEP_NODELIST"),
    ],
    ids=["nothing", "no launcher", "one task", "one task, older", "shell of a batch script"],
)
def test_processes_that_are_alone(environ):
    assert rank_from_environment(environ) is None


@pytest.mark.parametrize("name", TORCHRUN)
@pytest.mark.parametrize("empty", [False, True])
def test_torchrun_in_part(name, empty):
    environ = TORCHRUN | {name: ""} if empty else without(TORCHRUN, name)
    with pytest.raises(ClusterError, match=f"^{name} is not set, though .*torchrun"):
        rank_from_environment(environ)


@pytest.mark.parametrize("name", ["SLURM_LOCALID", "SLURM_JOB_ID"])
def test_srun_in_part(name):
    with pytest.raises(ClusterError, match=f"^{name} is not set, though .*srun"):
        rank_from_environment(without(SRUN, name))


def test_srun_without_hosts_or_tasks():
    for names, missing in [
        (("SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"), "SLURM_JOB_NODELIST"),
        (("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "SLURM_NTASKS"),
    ]:
        with pytest.raises(ClusterError, match=f"^{missing} is not set"):
            rank_from_environment(without(SRUN, *names))


@pytest.mark.parametrize(
    "environ, words",
    [
        (TORCHRUN | {"RANK": "x"}, "RANK=x: must be a whole number"),
        (TORCHRUN | {"RANK": "-1"}, "RANK=-1"),
        (TORCHRUN | {"RANK": "16"}, "rank 16 of 16"),
        (SRUN | {"SLURM_LOCALID": "1.5"}, "SLURM_LOCALID=1.5"),
        (SRUN | {"SLURM_STEP_NODELIST": "gpu[1"}, "list of hosts"),
        (SRUN | {"SLURM_PROCID": "16"}, "rank 16 of 16"),
    ],
)
def test_values_that_make_no_sense(environ, words):
    with pytest.raises(ClusterError) as error:
        rank_from_environment(environ)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_announced_to_torch():
    environ = {"MASTER_PORT": "1"}
    rank_from_environment(SRUN).announce(environ)
    assert environ == {"MASTER_ADDR": "gpu003", "MASTER_PORT": str(15000 + 123456 % 15000)}


def test_the_environment_of_this_process_is_the_default(monkeypatch):
    for name in [*TORCHRUN, *SRUN, "SLURM_STEPID"]:
        monkeypatch.delenv(name, raising=False)
    assert rank_from_environment() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ClusterError, match="RANK is not set"):
        rank_from_environment()


# -- Settings of a job ----------------------------------------------------------------------------


def test_settings():
    text = "nodes=2,gpus_per_node=8,timeout_min=1440,slurm_partition=gpu,slurm_exclusive=true"
    assert launch_settings(text, gpus=16) == dict(
        nodes=2,
        gpus_per_node=8,
        tasks_per_node=8,
        cpus_per_task=4,
        timeout_min=1440,
        slurm_partition="gpu",
        slurm_exclusive=True,
        slurm_job_name="eg3d",
        slurm_signal_delay_s=120,
        slurm_max_num_timeout=100,
    )


def test_settings_that_follow_from_others():
    few = launch_settings("slurm_time=60,mem_gb=32", gpus=4, workers=7)
    assert (few["nodes"], few["gpus_per_node"], few["tasks_per_node"]) == (1, 4, 4)
    assert (few["cpus_per_task"], few["mem_gb"]) == (8, 32)
    on_cpus = launch_settings("nodes=2,gpus_per_node=0,timeout_min=5,cpus_per_task=16", gpus=2)
    assert "gpus_per_node" not in on_cpus and on_cpus["tasks_per_node"] == 1
    assert on_cpus["cpus_per_task"] == 16


@pytest.mark.parametrize(
    "text, words",
    [
        (None, "timeout_min is missing"),
        ("nodes=2", "timeout_min is missing"),
        ("timeout_min=5,nodes=3", "nodes=3 must divide --gpus=16"),
        ("timeout_min=5,nodes=0", "nodes=0"),
        ("timeout_min=5,nodes=2,gpus_per_node=4", "nodes=2 times gpus_per_node=4 must be"),
        ("timeout_min=5,partition=gpu", "partition=gpu is not one of nodes"),
        ("timeout_min=5,nodes", "nodes is not one of"),
        ("timeout_min=", "timeout_min= is not one of"),
        ("timeout_min=2h", "timeout_min=2h must be a whole number"),
        ("timeout_min=5,tasks_per_node=2", "tasks_per_node=2 is not one of"),
    ],
)
def test_settings_that_cannot_be_used(text, words):
    with pytest.raises(ClusterError, match="^--launch-options: ") as error:
        launch_settings(text, gpus=16)
    assert words in str(error.value) and "\n" not in str(error.value)


# -- Submitting -----------------------------------------------------------------------------------


class FakeExecutor:
    """submitit's, as far as it is used; `error` is raised in place of submitting."""

    made = []
    error = None

    def __init__(self, **arguments):
        self.arguments, self.parameters = arguments, {}
        self.made.append(self)

    def update_parameters(self, **parameters):
        self.parameters |= parameters

    def submit(self, function):
        if self.error:
            raise self.error
        self.function = pickle.loads(pickle.dumps(function))
        return SimpleNamespace(job_id="4711")


@pytest.fixture
def submitit(monkeypatch):
    """A module `submitit` that submits nothing."""
    executor = type("Executor", (FakeExecutor,), {"made": []})
    delayed = SimpleNamespace(DelayedSubmission=lambda function: ("delayed", function))
    module = SimpleNamespace(AutoExecutor=executor, helpers=delayed)
    monkeypatch.setitem(sys.modules, "submitit", module)
    return module


def test_what_is_submitted(submitit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    argv = ["train.py", "--cfg=ffhq", "--launch=slurm", "--gpus=16", "--launch-options", "nodes=2"]
    argv += ["--outdir=runs", "--launch", "slurm", "--data=a b.zip", "--launch_options=nodes=2"]
    settings = launch_settings("nodes=2,timeout_min=1440,slurm_partition=gpu", gpus=16)
    assert submit_slurm(argv, "runs", settings) == "4711"
    (executor,) = submitit.AutoExecutor.made
    assert executor.arguments == dict(
        folder=str(tmp_path / "runs" / "slurm" / "%j"), cluster="slurm", slurm_max_num_timeout=100
    )
    assert executor.parameters == without(settings, "slurm_max_num_timeout") | dict(
        slurm_setup=[f"export PYTHONPATH={ROOT}${{PYTHONPATH:+:$PYTHONPATH}}"],
        slurm_srun_args=["--kill-on-bad-exit=0", "--wait=60"],
        slurm_additional_parameters={"requeue": True},
    )
    rest = ("--cfg=ffhq", "--gpus=16", "--outdir=runs", "--data=a b.zip")
    command = (sys.executable, str(tmp_path / "train.py"), *rest)
    assert executor.function == TrainingJob(command, str(tmp_path), patience=105)
    assert settings["slurm_max_num_timeout"] == 100


def test_requeued_is_the_same_command(submitit):
    job = TrainingJob(("a", "b"), "folder", 3)
    for method in (job.checkpoint, job.__submitit_checkpoint__):
        assert method() == ("delayed", TrainingJob(("a", "b"), "folder", 3))


def test_without_submitit(monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ClusterError, match="--launch=slurm: needs submitit: pip install submitit"):
        submit_slurm(["train.py"], "runs", {})


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError('Could not detect "srun", are you indeed on a slurm cluster?'),
        NameError("\nUnknown argument 'color'\nKnown executors: …"),
        OSError(13, "Permission denied"),
        AssertionError(),
    ],
)
def test_what_submitit_refuses_is_one_line(submitit, error):
    submitit.AutoExecutor.error = error
    with pytest.raises(ClusterError, match="^--launch=slurm: .") as caught:
        submit_slurm(["train.py"], "runs", {})
    assert "\n" not in str(caught.value)
    first = next((line for line in str(error).splitlines() if line), "AssertionError")
    assert first in str(caught.value)


# -- The job at work ------------------------------------------------------------------------------


class Requeued(Exception):
    """In place of submitit's end of the process."""


@pytest.fixture
def shell_job(tmp_path):
    """`shell_job(script, patience)`: a job that runs a shell script in a folder of its own."""
    return lambda script, patience=5.0: TrainingJob(("sh", "-c", script), str(tmp_path), patience)


@pytest.fixture
def warned():
    """`warned(job)` calls a job, and its `checkpoint` from a signal handler half a second later."""
    before = signal.getsignal(signal.SIGALRM)

    def call(job):
        def handle(number, frame):
            requeued = job.checkpoint()
            raise Requeued(requeued)

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        with pytest.raises(Requeued) as caught:
            job()
        return caught.value.args[0]

    yield call
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


WAITING = "trap '{answer}' TERM; touch ready; while :; do sleep 0.02; done"


def test_warned_job_writes_its_checkpoint_and_is_requeued(submitit, shell_job, warned, tmp_path):
    answer = f"sleep 0.2; echo written > checkpoint; exit {EXIT_STATUS}"
    job = shell_job(WAITING.format(answer=answer))
    assert warned(job) == ("delayed", TrainingJob(job.command, job.folder, job.patience))
    assert (tmp_path / "checkpoint").read_text() == "written\n"
    os.waitpid(job.child, 0)


def test_job_that_does_not_stop_is_requeued_all_the_same(submitit, shell_job, warned, tmp_path):
    job = shell_job(WAITING.format(answer=""), patience=0.3)
    assert warned(job)[0] == "delayed"
    assert (tmp_path / "ready").exists()
    os.kill(job.child, signal.SIGKILL)
    os.waitpid(job.child, 0)


def test_signals_to_submitit_do_not_end_the_command(shell_job, tmp_path):
    job = shell_job("kill -USR1 $$; kill -USR2 $$; pwd > where")
    job()
    assert (tmp_path / "where").read_text().strip() == str(tmp_path.resolve())


def test_stopped_command_is_given_again(shell_job, tmp_path):
    shell_job(f"echo x >> starts; [ $(wc -l < starts) -eq 3 ] || exit {EXIT_STATUS}", 0.01)()
    assert (tmp_path / "starts").read_text() == "x\n" * 3


def test_error_of_the_command_is_an_error_of_the_job(shell_job):
    with pytest.raises(RuntimeError, match="exit status 3$"):
        shell_job("exit 3")()


def test_importing_is_quick():
    """A task imports this module before its command starts."""
    code = "import sys, training.cluster; assert not {'torch', 'numpy'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
