"""Compiled C++/CUDA extensions are not used; the names remain for programs that import them."""

from collections.abc import Sequence
from typing import Any, NoReturn

__all__ = ["get_plugin", "verbosity"]

verbosity = "brief"  # 'none', 'brief' or 'full'


def get_plugin(
    module_name: str,
    sources: Sequence[str],
    headers: Sequence[str] | None = None,
    source_dir: str | None = None,
    **build_kwargs: Any,
) -> NoReturn:
    """Always raises RuntimeError: every operator of `torch_utils.ops` works without extensions."""
    raise RuntimeError(
        f"cannot build {module_name!r}: this implementation compiles no C++ or CUDA extensions; "
        "the operators in torch_utils.ops have versions that need none"
    )
