"""Kernels run in Triton's interpreter, on the CPU; compiled, where there is a CUDA device."""

import os
import sys

import pytest
import torch

if not torch.cuda.is_available():
    # Read when Triton is imported and when a kernel is decorated.
    assert "triton" not in sys.modules or os.environ.get("TRITON_INTERPRET") == "1"
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def device():
    """Where kernels run in these tests; the operators' choice is "triton" while one runs."""
    pytest.importorskip("triton", reason="Triton is not installed: its kernels are not tested")
    from torch_utils.ops.choice import set_ops

    set_ops("triton")
    yield torch.device("cuda" if torch.cuda.is_available() else "cpu")
    set_ops(None)
