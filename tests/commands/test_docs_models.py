"""What the pages on models, training and clusters say can be typed: commands, scripts, options."""

import ast
import os
import re
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

import gen_samples
import gen_videos
import train
from training import cluster
from training import config as configuration
from training.health import NAMES

ROOT = Path(train.__file__).parent
PAGES = {name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("models", "training_guide")}
PAGES["cluster"] = (ROOT / "docs" / "cluster.md").read_text()
SIDES = {"cars_128.zip": 128, "cars.zip": 64, "AFHQ_cats_512.zip": 512, "faces.zip": 512}
SIDES |= {"FFHQ_512.zip": 512, "FFHQ_512_rebalanced.zip": 512}
LAUNCH = ("launch", "launch-options")


class Pictures:
    """As much of a dataset as a configuration asks for."""

    has_labels, label_dim, num_channels = True, 25, 3

    def __init__(self, path):
        self.name = Path(path).stem
        self.resolution = SIDES[Path(path).name]

    def __len__(self):
        return 10


def blocks(page, *languages):
    """The code blocks of a page in some languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", PAGES[page], flags=re.M | re.S)
    return [text for language, text in found if language in languages]


def commands(page):
    """{option: value} of each `train.py` command of a page, variables of a shell being 8."""
    lines = "\n".join(blocks(page, "sh", "bash", "yaml")).replace("\\\n", " ").splitlines()
    found = [line.split("train.py", 1)[1] for line in lines if "train.py --" in line]
    for manifest in re.split(r"^---$", "\n".join(blocks(page, "yaml")), flags=re.M):
        if "[torchrun, train.py]" in manifest:
            found.append(" ".join(re.findall(r"^ +- (--\S+)$", manifest, flags=re.M)))
    return [options(re.sub(r"\$\w+", "8", line)) for line in found]


def options(line):
    """{option: value}, each written as --option=value."""
    words = shlex.split(line)
    assert all(re.fullmatch(r"--[\w-]+=.+", word) for word in words), line
    pairs = dict(word.removeprefix("--").split("=", 1) for word in words)
    assert len(pairs) == len(words), line
    return pairs


def configure(given):
    """The configuration that a command makes; everything that it sets has an effect."""
    words = [f"--{name}={value}" for name, value in given.items() if name not in LAUNCH]
    context = train.main.make_context("train", words)
    sources = {name: context.get_parameter_source(name).name for name in context.params}
    names = {name for name, source in sources.items() if source == "COMMANDLINE"}
    opts = configuration.with_preset(context.params, names)
    assert configuration.idle_options(opts, names) == []
    return configuration.build_config(opts, Pictures(given["data"]))


@pytest.mark.parametrize(
    "page, count", [("models", 7), ("training_guide", 1), ("cluster", 8)], ids=lambda v: str(v)
)
def test_commands_make_configurations(page, count):
    found = commands(page)
    assert len(found) == count
    for given in found:
        configure(given)


# -- models.md: what the published models were trained with ---------------------------------------

# Preset, side, gamma, pose swapping, final M, ADA target, kimg, starting model.
PUBLISHED = {
    "ffhq512-64": ("ffhq", 512, 1, 0.5, None, None, 25000, None),
    "ffhq512-128": ("ffhq", 512, 1, 0.5, 128, None, 2000, "ffhq512-64.pkl"),
    "ffhqrebalanced512-64": ("ffhq", 512, 1, 0.8, None, None, 25000, "ffhq512-64.pkl"),
    "ffhqrebalanced512-128": ("ffhq", 512, 1, 0.8, 128, None, 25000, "ffhqrebalanced512-64.pkl"),
    "afhqcats512-128": ("afhq", 512, 5, 0.8, 128, 0.6, 25000, "ffhq512-64.pkl"),
    "shapenetcars128-64": ("shapenet", 128, 0.3, None, None, None, 25000, None),
}


def test_recipes_of_the_published_models():
    recipes = {given["desc"]: given for given in commands("models") if "desc" in given}
    assert list(recipes) == list(PUBLISHED)
    for name, (cfg, side, gamma, swapping, final, target, kimg, start) in PUBLISHED.items():
        config = configure(recipes[name])
        loss = config.loss_kwargs
        assert f"-{cfg}-" in config.run_dir and config.training_set_kwargs["resolution"] == side
        assert (config.num_gpus, config.batch_size, config.total_kimg) == (8, 32, kimg)
        assert (loss["r1_gamma"], loss["gpc_reg_prob"]) == (gamma, swapping)
        assert loss["neural_rendering_resolution_initial"] == 64
        assert loss["neural_rendering_resolution_final"] == final
        assert (config.ada_target, config.resume_pkl) == (target, start)
        row = re.search(rf"^\| {name} \|.*$", PAGES["models"], flags=re.M).group()
        assert f"| {side} |" in row and f"| {gamma:g}" in row
        assert (str(swapping) in row) if swapping else ("| no |" in row)
        assert f"| {start.removesuffix('.pkl') if start else 'nothing'} |" in row


def test_published_files_are_named():
    for name in PUBLISHED:
        assert f"`{name}.pkl`" in PAGES["models"]


# -- training_guide.md -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["models", "training_guide"])
def test_options_that_are_named_exist(page):
    known = {option for p in train.main.params for option in p.opts}
    known |= {f"--{name}" for name in LAUNCH}
    for command in (gen_samples.main, gen_videos.main):
        known |= {option for p in command.params for option in p.opts}
    known = {name.replace("_", "-") for name in known} | {"--dest", "--dry-run"}
    named = {name.replace("_", "-") for name in re.findall(r"--[a-z][\w-]*", PAGES[page])}
    assert len(named) > 10 and not named - known


def reported_names():
    """Names of statistics in the source of `training`, {kind} being real and fake."""
    names = set(NAMES)
    for path in (ROOT / "training").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.JoinedStr | ast.Constant) else ""
            found = re.fullmatch(
                r"f?'((Loss|Progress|Timing|Resources|Gradients)/[\w/{}]*[\w}])'", text
            )
            names |= {found.group(1)} if found else set()
    kinds = {name.replace("{kind}", kind) for name in names for kind in ("real", "fake")}
    return {name for name in kinds if "{" not in name}


def test_every_statistic_is_explained():
    section = PAGES["training_guide"].split("## What the curves should look like")[1]
    named = set(re.findall(r"`([A-Z]\w+/[\w/]+)`", section))
    names = ("Gmain", "Greg", "Dmain", "Dreg")
    phases = {f"{kind}/{name}" for name in names for kind in ("Timing", "Gradients/norm")}
    expected = reported_names() | phases
    assert len(expected) > 30 and named == expected


def test_warnings_of_a_run_are_symptoms():
    source = (ROOT / "training" / "health.py").read_text()
    signs = re.findall(r'"(the (?:scene|box|geometry|generator) [a-z ]+)[":]', source)
    assert len(signs) == 5
    for sign in signs:
        assert f'| "{sign.strip()}"' in PAGES["training_guide"], sign


# -- cluster.md ------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_scripts_can_be_parsed():
    scripts = blocks("cluster", "sh", "bash")
    runs = re.findall(r"^run: \|\n((?:  .*\n)+)", "".join(blocks("cluster", "yaml")), flags=re.M)
    assert len(runs) == 2
    for script in [*scripts, *runs]:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    jobs = [script for script in scripts if "#SBATCH" in script]
    assert len(jobs) == 2 and all(job.startswith("#!/bin/bash\n#SBATCH") for job in jobs)


STAND_INS = {
    "srun": 'touch started; sleep 0.2; exit "$STATUS"',
    "scontrol": '[ "$1" = show ] && echo host0 || echo "$*" >> asked',
}


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """`batch(number, status, **variables)`: runs a job script of the page on stand-ins for Slurm's
    commands, with SIGTERM to its shell meanwhile; (its exit status, what it asked Slurm for)."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    def run(number, status, **variables):
        asked, started = tmp_path / "asked", tmp_path / "started"
        for trace in (asked, started):
            trace.unlink(missing_ok=True)
        script = [text for text in blocks("cluster", "bash") if "#SBATCH" in text][number]
        slurm = dict(SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="4", SLURM_NNODES="2")
        variables |= slurm | dict(STATUS=str(status), SLURM_JOB_NODELIST="host[0-1]")
        shell = subprocess.Popen(
            ["bash", "-u", "-c", script], cwd=tmp_path, env=os.environ | variables
        )
        while not started.exists():
            time.sleep(0.01)
        shell.send_signal(signal.SIGTERM)
        return shell.wait(), asked.read_text().split() if asked.exists() else []

    return run


def test_job_scripts_requeue_what_is_to_go_on(batch):
    again = ["requeue", "7"]
    assert batch(0, 75) == (75, again)
    assert batch(0, 0) == (0, []) and batch(0, 1) == (1, [])
    assert batch(1, 1) == (1, again)
    assert batch(1, 1, SLURM_RESTART_COUNT="19") == (1, again)
    assert batch(1, 1, SLURM_RESTART_COUNT="20") == (1, []) and batch(1, 0) == (0, [])


def test_manifests_can_be_parsed():
    """By their shape where there is no YAML parser."""
    manifests = blocks("cluster", "yaml")
    assert len(manifests) == 3
    for line in "".join(manifests).splitlines():
        indent = len(line) - len(line.lstrip(" "))
        assert "\t" not in line and indent % 2 == 0, line
    yaml = pytest.importorskip("yaml")
    sky, several, kubernetes = (list(yaml.safe_load_all(text)) for text in manifests)
    assert sky[0]["resources"]["job_recovery"]["recover_on_exit_codes"] == [75]
    assert several[0]["num_nodes"] == 2
    claim, runtime, job = kubernetes
    assert [m["kind"] for m in kubernetes] == [
        "PersistentVolumeClaim",
        "TrainingRuntime",
        "TrainJob",
    ]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    trainer = job["spec"]["trainer"]
    count = trainer["numNodes"] * trainer["resourcesPerNode"]["limits"]["nvidia.com/gpu"]
    assert f"--gpus={count}" in trainer["args"]
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod = node["template"]["spec"]["template"]["spec"]
    mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "shared"]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_every_template_says_what_happens_and_what_it_needs():
    sections = re.split(r"^## ", PAGES["cluster"], flags=re.M)[1:-1]
    assert len(sections) == 7
    for section in sections:
        assert "*Preemption*: " in section and "*Storage*: " in section, section.splitlines()[0]


def test_settings_of_the_submission():
    (given,) = [given for given in commands("cluster") if "launch" in given]
    assert given["launch"] == "slurm"
    settings = cluster.launch_settings(given["launch-options"], int(given["gpus"]))
    assert settings["nodes"] * settings["tasks_per_node"] == 16
    for name in cluster.COUNTS:
        assert f"| `{name}` |" in PAGES["cluster"]


# -- All -------------------------------------------------------------------------------------------


def anchors(text):
    """What can be linked to on a page, as GitHub names it."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\((?!http)([^)#]*)#?([^)]*)\)", PAGES[page])
    assert len(links) > 5
    for name, anchor in links:
        text = (ROOT / "docs" / name).read_text() if name else PAGES[page]
        assert not anchor or anchor in anchors(text), f"{name}#{anchor}"
