"""The structure of the tree: which way imports point, what importing does, what files mention.

The rules are those of CONTRIBUTING.md. They are read from the syntax trees of all files; every rule
is also run on a small made-up tree that breaks it.
"""

import ast
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = {"", ".cfg", ".cpp", ".css", ".cu", ".h", ".html", ".in", ".js", ".md"}
TEXT |= {".py", ".sh", ".toml", ".txt", ".yaml", ".yml"}

# Lowest first: a module imports its own layer and lower ones. What is in no layer is a command.
LAYERS = ["dnnlib", "torch_utils", "training", "metrics", "eg3d"]
COMMANDS = ["dataset_preprocessing", "benchmarks", "compat"]
FOLDERS = [*LAYERS, *COMMANDS, "tests", "docs", ".ci"]
METHODS = ["training.epigraf", "training.mimic3d"]
EG3D_MAY_IMPORT = [
    "training.cameras",
    "training.dual_discriminator",
    "training.network_files",
    "training.network_record",
    "training.networks_stylegan2",
    "training.superresolution",
    "training.surfaces",
    "training.triplane",
    "training.volumetric_rendering",
]

FORBIDDEN = {
    "a path of somebody's machine": re.compile(r"(?<![\w.~})])/(?:work|root|home|Users)/"),
    "a page that is not in the repository": re.compile(r"\bspec/\w+\.md|(?<![\w/])design\.md"),
}


def files(root):
    """The project's files: those at the top and in FOLDERS, not data and runs that lie beside."""
    inside = [path for folder in FOLDERS for path in (root / folder).rglob("*")]
    return sorted(p for p in [*root.iterdir(), *inside] if p.is_file())


def module_name(path):
    """`a/b/c.py` -> `a.b.c`, `a/b/__init__.py` -> `a.b`; relative to the root of the tree."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def read_tree(root):
    """{module: source} of all Python files but the tests."""
    paths = [p.relative_to(root) for p in files(root) if p.suffix == ".py"]
    return {module_name(p): (root / p).read_text() for p in paths if p.parts[0] != "tests"}


def within(module, packages):
    """Whether `module` is one of `packages` or lies inside one."""
    return any(module == p or module.startswith(p + ".") for p in packages)


def imports(module, source, modules):
    """The names that `source` imports anywhere, functions included, as full module names.

    `from a import b` is `a.b` where that is one of `modules`, else `a`. A relative import is
    resolved against `module`, taken as a package where something of `modules` lies inside it.
    """
    is_package = any(m.startswith(module + ".") for m in modules)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.split(".")[: None if is_package else -1]
                up = up[: len(up) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in modules else base
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", None))
            argument = node.args[0]
            if name in ("import_module", "__import__") and isinstance(argument, ast.Constant):
                yield str(argument.value)


def layer(module):
    top = module.split(".")[0]
    return LAYERS.index(top) if top in LAYERS else len(LAYERS)


def broken_rule(module, target):
    """Which rule it breaks that `module` imports `target`, or None."""
    loop_measures = module == "training.training_loop" and within(target, ["metrics"])
    if layer(target) > layer(module) and not loop_measures:
        return "imports point downwards: commands, eg3d, metrics, training, torch_utils, dnnlib"
    if within(module, ["eg3d"]) and within(target, ["training"]):
        if not within(target, EG3D_MAY_IMPORT):
            return "eg3d takes only networks, rendering and cameras from training"
    if within(module, ["torch_utils.ops"]) and not within(target, ["torch_utils.ops", "dnnlib"]):
        return "torch_utils.ops stands alone but for dnnlib"
    for method in METHODS:
        if within(target, [method]) and not within(module, [method]):
            if layer(module) < len(LAYERS):
                return "nothing shared imports a method, methods do not import each other"
    is_command = "." not in target and layer(target) == len(LAYERS) and target not in COMMANDS
    if is_command and module != target and not within(module, ["benchmarks", "compat"]):
        return "what two commands need is in the library"
    return None


def broken_imports(tree):
    """One line for each import of `tree` ({module: source}) that breaks a rule."""
    ours = {m.split(".")[0] for m in tree}
    return [
        f"{module} imports {target}: {rule}"
        for module, source in tree.items()
        for target in dict.fromkeys(imports(module, source, tree))
        if target.split(".")[0] in ours and (rule := broken_rule(module, target))
    ]


def test_imports_point_one_way():
    assert broken_imports(read_tree(ROOT)) == []


@pytest.mark.parametrize(
    "module, source",
    [
        ("dnnlib.util", "import torch_utils"),
        ("torch_utils.misc", "from training import triplane"),
        ("training.loss", "def f():\n    from metrics import fid"),
        ("training.triplane", "import eg3d.scene as s"),
        ("metrics.fid", "from eg3d import scene"),
        ("eg3d.scene", "from training import loss"),
        ("eg3d.scene", "import training.augment"),
        ("eg3d.scene", "import train"),
        ("torch_utils.ops.fma", "from .. import misc"),
        ("torch_utils.ops.fma", "from torch_utils.misc import f"),
        ("training.triplane", "from .epigraf import patches"),
        ("training.triplane", "importlib.import_module('training.mimic3d.loss')"),
        ("training.epigraf.patches", "from ..mimic3d import loss"),
        ("gen_samples", "from train import main"),
    ],
)
def test_broken_import_is_found(module, source):
    names = ["train", "gen_samples", "eg3d.scene", "metrics.fid", "training.loss", "dnnlib.util"]
    names += ["training.augment", "training.triplane", "training.epigraf.patches", "torch_utils"]
    names += [
        "training.mimic3d.loss",
        "torch_utils.ops.fma",
        "torch_utils.misc",
        "eg3d",
        "training",
    ]
    tree = {**dict.fromkeys(names, ""), module: source}
    found = broken_imports(tree)
    assert len(found) == 1 and found[0].startswith(module + " imports "), found


@pytest.mark.parametrize(
    "module, source",
    [
        ("train", "import eg3d, metrics.fid, training.loss, torch, dnnlib.util"),
        ("train", "from training.epigraf import patches"),
        ("eg3d.scene", "from training import triplane\nfrom . import latents"),
        ("eg3d.scene", "from training.volumetric_rendering.renderer import render"),
        ("metrics.fid", "from training.dataset import Dataset"),
        ("training.training_loop", "from metrics import fid"),
        (
            "training.epigraf.patches",
            "from ..triplane import TriPlaneGenerator\nfrom . import view",
        ),
        ("torch_utils.ops.fma", "from dnnlib.util import EasyDict\nfrom . import bias_act"),
    ],
)
def test_allowed_import_passes(module, source):
    names = ["train", "eg3d.latents", "metrics.fid", "training.dataset", "training.triplane"]
    names += ["training.volumetric_rendering.renderer", "training.epigraf.view", "dnnlib.util"]
    names += ["training.epigraf.patches", "torch_utils.ops.bias_act", "training.loss"]
    assert broken_imports({**dict.fromkeys(names, ""), module: source}) == []


def test_every_folder_with_code_has_a_layer():
    assert {path.parent.name for path in ROOT.glob("*/*.py")} <= set(FOLDERS)


def forbidden(text):
    """`line number: what is forbidden there` of each forbidden mention in `text`."""
    return [
        f"{text.count(chr(10), 0, match.start()) + 1}: {what} ({match.group()})"
        for what, pattern in FORBIDDEN.items()
        for match in pattern.finditer(text)
    ]


def test_files_stand_alone():
    paths = [p for p in files(ROOT) if p.suffix in TEXT]
    assert ROOT / ".ci" / "run" in paths and ROOT / "Makefile" in paths
    found = [f"{p.relative_to(ROOT)}:{f}" for p in paths for f in forbidden(p.read_text())]
    assert found == []


def test_forbidden_mention_is_found():
    slash = "/"
    assert forbidden(f"x\nDATA = '{slash}work{slash}x'")[0].startswith("2: a path of")
    assert forbidden(f"see {slash}root{slash}.cache")
    assert forbidden(f"as spec{slash}networks.md says")
    assert not forbidden("a framework/root/x, docs/design.md and https://host.org/work/x")


# Runs in a process of its own: imports the modules named in argv and prints {module: complaint}.
# The audit hook also sees what a library does on a module's behalf, and what is caught there.
IMPORTER = """
import importlib, json, sys
import torch

WATCHED = ("subprocess.Popen", "os.system", "os.posix_spawn")
WATCHED += ("socket.connect", "socket.getaddrinfo")
seen = []
complaints = {}

def hook(event, args):
    if event in WATCHED:
        seen.append(event)
        raise RuntimeError(f"{event} while importing")

def no_cuda():
    seen.append("CUDA initialised")
    raise RuntimeError("CUDA initialised while importing")

sys.path.append("compat")
sys.addaudithook(hook)
torch.cuda._lazy_init = no_cuda
for name in sys.argv[1:]:
    seen.clear()
    error = None
    try:
        importlib.import_module(name)
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    if seen or error:
        complaints[name] = ", ".join(seen) or error
print(json.dumps(complaints))
"""


def complaints_on_import(modules, folder):
    """{module: what its import did or how it failed}, for modules that lie in `folder`."""
    run = [sys.executable, "-c", IMPORTER, *modules]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_does_nothing_else():
    modules = [m for m in read_tree(ROOT) if not within(m, ["benchmarks", "docs"])]
    modules = [m.removeprefix("compat.") for m in modules if not m.endswith("__main__")]
    if importlib.util.find_spec("triton") is None:  # it comes with a torch for GPUs
        modules = [m for m in modules if not m.endswith(("_triton", "triplane_device"))]
    complaints = complaints_on_import(modules, ROOT)
    assert modules and not complaints, "\n".join(f"{m}: {c}" for m, c in complaints.items())


def test_import_with_side_effect_is_found(tmp_path):
    sources = {
        "compiles": "import subprocess\nsubprocess.run(['cc', '--version'])",
        "hides": "import os\ntry:\n    os.system('true')\nexcept RuntimeError:\n    pass",
        "downloads": "import urllib.request\nurllib.request.urlopen('http://localhost:9/x')",
        "uses_cuda": "import torch\nx = torch.zeros(1, device='cuda')",
        "breaks": "import no_such_module",
        "fine": "import torch\nx = torch.zeros(1)",
    }
    for name, source in sources.items():
        (tmp_path / f"{name}.py").write_text(source)
    found = complaints_on_import(list(sources), tmp_path)
    assert set(found) == set(sources) - {"fine"}
    assert found["hides"] == "os.system" and found["compiles"] == "subprocess.Popen"
    assert "CUDA" in found["uses_cuda"] and "no_such_module" in found["breaks"]
