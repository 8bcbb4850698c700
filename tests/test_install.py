"""What `pip install .` brings: every module and data file, commands that start, dependencies."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:  # Python 3.10, where pytest brings the same parser
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
PACKAGES = [p.rstrip("*") for p in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
DISTRIBUTION = {"PIL": "pillow", "imageio_ffmpeg": "imageio-ffmpeg", "skimage": "scikit-image"}
DISTRIBUTION |= {"cv2": "opencv-python-headless"}
DISTRIBUTION |= {"torch_fidelity": "torch-fidelity", "fast_simplification": "fast-simplification"}
# What a torch for GPUs brings. Modules that need it are imported where there is one.
WITH_TORCH = {"triton"}


def installed_files():
    """The files that an installation has to have, relative to the root of the tree."""
    inside = [path for package in PACKAGES for path in (ROOT / package).rglob("*")]
    found = [p for p in [*ROOT.glob("*.py"), *inside] if p.is_file() and p.suffix != ".md"]
    return {p.relative_to(ROOT).as_posix() for p in found if p.parent.name != "__pycache__"}


def requirements(lines):
    """{name of the distribution: Requirement} of those that hold for this Python."""
    found = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return {r.name: r for r in found if r.marker is None or r.marker.evaluate()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the tree, built offline from a copy, so that the tree stays as it is."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tops = {name.split("/")[0] for name in installed_files()}
    for top in [*tops, "pyproject.toml", "README.md", "LICENSE"]:
        if (ROOT / top).is_dir():
            shutil.copytree(ROOT / top, source / top)
        elif (ROOT / top).exists():
            shutil.copy(ROOT / top, source / top)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(target)!r})"
    run = [sys.executable, "-c", build]
    done = subprocess.run(run, cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(target.glob("*.whl"))


def test_wheel_holds_every_module_and_data_file(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == installed_files()


def test_installed_commands_start_in_another_folder(wheel, tmp_path):
    """`import eg3d` and the console scripts find everything without the clone."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = "import eg3d, importlib\n"
    for target in PROJECT["scripts"].values():
        module, function = target.split(":")
        code += f"assert callable(importlib.import_module({module!r}).{function})\n"
    code += "print(eg3d.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert Path(done.stdout.strip()).is_relative_to(tmp_path / "site")


def test_every_command_is_a_console_script():
    modules = {path.stem for path in ROOT.glob("*.py")}
    scripts = {f"eg3d-{m.replace('_', '-')}": f"{m}:main" for m in modules}
    assert PROJECT["scripts"] == scripts
    assert set(PYPROJECT["tool"]["setuptools"]["py-modules"]) == modules


def third_party(source):
    """(imported on import, imported later or tried): top-level names that are not Python's own."""
    tree = ast.parse(source)
    at_once, all_names = set(), set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module]
        tops = {name.split(".")[0] for name in names} - sys.stdlib_module_names
        all_names |= tops
        if node in tree.body:
            at_once |= tops
    return at_once, all_names - at_once


def undeclared(sources, declared, optional, ours):
    """What `sources` import without a declaration: at once needs `declared`, later any of both."""
    found = set()
    for source in sources:
        at_once, later = third_party(source)
        found |= {n for n in at_once - ours if DISTRIBUTION.get(n, n) not in declared}
        found |= {n for n in later - ours if DISTRIBUTION.get(n, n) not in {*declared, *optional}}
    return found


def test_imports_are_declared():
    sources = [(ROOT / name).read_text() for name in installed_files() if name.endswith(".py")]
    optional = [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    ours = {*PACKAGES, *WITH_TORCH, *(path.stem for path in ROOT.glob("*.py"))}
    declared = requirements(PROJECT["dependencies"])
    assert undeclared(sources, declared, requirements(optional), ours) == set()


def test_undeclared_import_is_found():
    sources = ["import os, torch, eg3d\nimport yaml.x", "def f():\n    import tensorboard, av"]
    sources += ["import tensorboard", "try:\n    import tensorboard\nexcept ImportError:\n    pass"]
    found = undeclared(sources, {"torch"}, {"tensorboard"}, {"eg3d"})
    assert found == {"yaml", "av", "tensorboard"}
    assert undeclared(sources[3:], {"torch"}, {"tensorboard"}, {"eg3d"}) == set()


def test_pins_satisfy_the_declaration():
    pins = requirements((ROOT / "requirements.txt").read_text().splitlines())
    extras = PROJECT["optional-dependencies"]
    wanted = requirements([*PROJECT["dependencies"], *extras["test"], *extras["tensorboard"]])
    assert set(pins) == set(wanted)
    for name, pin in pins.items():
        version = re.fullmatch(r"==([\d.]+)", str(pin.specifier)).group(1)
        assert wanted[name].specifier.contains(version), f"{pin} against {wanted[name]}"
