"""Compiles Triton kernels for a GPU that need not be there, and counts what the code uses.

A kernels module (`torch_utils/ops/*_triton.py`, or a sibling `compile_cases*.py`) lists its shipped
configurations in `compile_cases() -> list[CompileCase]`. Needs Triton with compiled kernels
(`TRITON_INTERPRET` unset) and `ptxas`, which Triton's wheel carries.
"""

import importlib
import pkgutil
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["ARCHITECTURES", "CompileCase", "Usage", "all_cases", "compile_case"]

ARCHITECTURES = (80, 90, 100)  # A100, H100 and H200, B200


@dataclass(frozen=True)
class CompileCase:
    """A kernel in one configuration.

    Args:
        name: what the table calls it, such as "epilogue forward fp16 channels-last".
        kernel: a function decorated with `triton.jit`.
        types: Triton's type of every argument that is not constant: "*fp16", "i32", "fp32".
        constants: values of the other arguments.
        num_warps, num_stages: as at the launch.
        odd: integer arguments that are not multiples of 16; pointers and other integers are.
    """

    name: str
    kernel: Any
    types: Mapping[str, str]
    constants: Mapping[str, Any] = field(default_factory=dict)
    num_warps: int = 4
    num_stages: int = 2
    odd: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """What ptxas and the PTX say: registers a thread, bytes of spills and of shared memory, and
    bytes of the widest global load, store and atomic addition (0: none)."""

    registers: int
    spills: int
    shared: int
    load: int
    store: int
    atomic: int


def all_cases() -> list[CompileCase]:
    """The cases of every kernels module of this package."""
    package = importlib.import_module(__package__)
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{__package__}.{n}") for n in names if _has_kernels(n)]
    listed = [m.compile_cases() for m in modules if hasattr(m, "compile_cases")]
    return [case for cases in listed for case in cases]


def compile_case(case: CompileCase, architecture: int) -> Usage:
    """Compiles for compute capability `architecture`, 90 for 9.0.

    Raises RuntimeError where ptxas is missing or refuses the code, or the kernels are interpreted.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    names = getattr(case.kernel, "arg_names", None)
    if not isinstance(case.kernel, triton.JITFunction):
        raise RuntimeError(f"{case.name}: is interpreted, unset TRITON_INTERPRET to compile it")
    signature = {n: "constexpr" if n in case.constants else case.types[n] for n in names}
    aligned = [
        i
        for i, n in enumerate(names)
        if signature[n][0] == "*" or (signature[n][0] == "i" and n not in case.odd)
    ]
    source = triton.compiler.ASTSource(
        fn=case.kernel,
        signature=signature,
        constexprs={(names.index(n),): value for n, value in case.constants.items()},
        attrs={(i,): [["tt.divisibility", 16]] for i in aligned},
    )
    options = dict(num_warps=case.num_warps, num_stages=case.num_stages, enable_fp_fusion=True)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    ptx = compiled.asm["ptx"]
    return Usage(
        **_assembled(ptx, case.name),
        shared=compiled.metadata.shared,
        load=_widest(r"ld\.global[\w.:]*", ptx),
        store=_widest(r"st\.global[\w.:]*", ptx),
        atomic=_widest(r"(?<![\w.])(?:red|atom)[\w.:]*\.global[\w.:]*", ptx),
    )


def _has_kernels(module: str) -> bool:
    return module.endswith("_triton") or module.startswith("compile_cases")


def _assembled(ptx: str, name: str) -> dict[str, int]:
    """Registers and spills, as ptxas tells them."""
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE).group(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.ptx"
        path.write_text(ptx)
        command = [_ptxas(), "-v", f"-arch={target}", str(path), "-o", str(path) + ".cubin"]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: ptxas: {done.stderr.strip()}")
    stores, loads = (
        int(re.search(rf"(\d+) bytes spill {what}", done.stderr).group(1))
        for what in ("stores", "loads")
    )
    registers = int(re.search(r"Used (\d+) registers", done.stderr).group(1))
    return dict(registers=registers, spills=stores + loads)


def _ptxas() -> str:
    """The newest ptxas at hand: Triton's own first, whose PTX can be newer than a toolkit's."""
    import triton

    folder = Path(triton.__path__[0]) / "backends" / "nvidia" / "bin"
    own = [str(folder / n) for n in ("ptxas-blackwell", "ptxas") if (folder / n).exists()]
    found = own[0] if own else shutil.which("ptxas")
    if found is None:
        raise RuntimeError("ptxas is neither in Triton's package nor on PATH")
    return found


def _widest(instruction: str, ptx: str) -> int:
    """Bytes of the widest of these instructions: `.v4.b32` is 16, `.v2.f16x2` is 8."""
    widths = [0]
    for text in re.findall(instruction, ptx):
        lanes = int(m.group(1)) if (m := re.search(r"\.v(\d)", text)) else 1
        bits, packed = re.search(r"\.(?:bf|[bfsu])(8|16|32|64)(x2)?(?!\w)", text).groups()
        widths.append(lanes * int(bits) * (2 if packed else 1) // 8)
    return max(widths)
