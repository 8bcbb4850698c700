"""The register's promises: nothing shared names a method, and a tree without one is whole."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_tree import ROOT, files, read_tree, within
from training import methods

OTHERS = [name for name in methods.all_methods() if name != methods.DEFAULT]
SHARED = ["training", "eg3d", "metrics", "torch_utils", "dnnlib"]
# What says most in least time about the networks, files and options that are left.
QUICK = [
    "tests/test_tree.py",
    "tests/test_public_api.py",
    "tests/commands/test_docs_options.py",
    "tests/torch_utils/test_persistence.py",
    "tests/training/test_config.py",
    "tests/training/test_methods.py",
    "tests/training/test_network_files.py",
    "tests/training/networks/test_triplane.py",
]


def names_in_code(source):
    """Identifiers, parts of imports and texts of a file, but for comments and docstrings."""
    tree = ast.parse(source)
    bodies = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, bodies) and node.body and ast.get_docstring(node) is not None
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node not in docstrings:
                yield node.value
        for field in ("id", "name", "asname", "attr", "arg", "module"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value


def mentions(source, names):
    """The names in code that contain one of the methods'."""
    pattern = re.compile("|".join(map(re.escape, names)), re.IGNORECASE)
    return [found for found in names_in_code(source) if pattern.search(found)]


def test_nothing_shared_names_a_method():
    own = [f"training.{name}" for name in OTHERS]
    found = {}
    for module, source in read_tree(ROOT).items():
        is_command = "." not in module and module not in ("conftest",)
        if (within(module, SHARED) or is_command) and not within(module, own):
            names = mentions(source, OTHERS) if OTHERS else []
            if names:
                found[module] = names
    assert found == {}


@pytest.mark.parametrize(
    "source, count",
    [
        ('"""As in Thing (Somebody 2022)."""\n# Thing again\n', 0),
        ("from training.thing import x", 1),
        ("import training.thing.loss as y", 1),
        ("from training import thing", 1),
        ("if method == 'Thing': pass", 1),
        ("load(thing_options=1)", 1),
        ("class ThingLoss: 'A docstring of thing.'", 1),
        ("x = self.is_thing", 1),
    ],
)
def test_names_in_code_are_told_from_citations(source, count):
    assert len(mentions(source, ["thing"])) == count


@pytest.fixture(params=OTHERS)
def tree_without(request, tmp_path):
    """A copy of the tree that lacks a method: its folder, its tests, its page, its benchmarks."""
    name = request.param
    gone = [Path("training") / name, Path("tests/training") / name, Path(f"docs/{name}.md")]
    for path in (ROOT / "benchmarks").glob("*.py"):
        if f"training.{name}" in path.read_text(encoding="utf-8"):
            gone += [Path("benchmarks") / path.name, Path(f"tests/benchmarks/test_{path.name}")]
    for path in files(ROOT):
        relative = path.relative_to(ROOT)
        if any(relative.is_relative_to(place) for place in gone) or "__pycache__" in path.parts:
            continue
        (tmp_path / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / relative)
    left = _run(tmp_path, "-c", "from training import methods; print(*methods.all_methods())")
    assert left.stdout.split() == [m for m in methods.all_methods() if m != name], left.stderr
    return tmp_path


def _run(folder, *arguments):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "PYTEST"))}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def _assert_green(folder, *arguments):
    done = _run(folder, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert re.search(r"\d+ passed", done.stdout)


def test_the_tree_is_whole_without_a_method(tree_without):
    _assert_green(tree_without, "-m", "not slow and not gpu", *QUICK)


@pytest.mark.slow
def test_everything_else_passes_without_a_method(tree_without):
    chosen = ["-m", "not slow and not gpu", "--ignore=tests/test_methods.py"]
    _assert_green(tree_without, *chosen, *(f"--ignore={path}" for path in QUICK), "tests")
