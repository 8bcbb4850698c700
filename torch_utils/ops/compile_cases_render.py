"""The configurations in which the renderer's kernels for points and for rays are compiled.

Fields of released models, and what their options make of them.
"""

import itertools
from collections.abc import Sequence

from . import render_triton, triplane_triton
from .compile_gate import CompileCase
from .render_triton import BLOCK, STAGES, WARPS
from .triplane_triton import (
    BACKWARD_BLOCK,
    BACKWARD_LAUNCH,
    FORWARD_TILE,
    PRODUCTS,
    forward_block,
    separately,
)


def _kind(axes: str, sides: Sequence[int], activation: str, colouring: str) -> dict:
    """Constants of a case: planes of these sides, axes as letters of columns and rows."""
    sizes = tuple(side for side in sides for _ in range(2))
    return dict(
        AXES=tuple("xyz".index(letter) for letter in axes),
        SIZES=sizes,
        TEXELS=sum(side**2 for side in sides),
        C=32,
        HIDDEN=64,
        COLOURS=32,
        ACTIVATION=activation,
        COLOURING=colouring,
    )


# What is compiled: EG3D's released models, its corrected axes, planes of two sides, and a field of
# leaky ReLU and linear colours with the classic rule.
KINDS = {
    "legacy": _kind("xyxz", [256] * 2, "softplus", "sigmoid"),
    "orthogonal": _kind("xyxzzy", [256] * 3, "softplus", "sigmoid"),
    "two sets": _kind("xyyzzx" * 2, [256] * 3 + [512] * 3, "softplus", "sigmoid"),
    "classic": _kind("zyzxyx", [512] * 3, "lrelu", "linear"),
}
INPUTS = dict.fromkeys("w1 b1 w2 b2 points directions depths".split(), "*fp32")
INPUTS |= dict(count="i32", samples="i32", scale="fp32")


def compile_cases() -> list[CompileCase]:
    """Every kernel in each precision and of each kind."""
    return _points() + _rays()


def _points() -> list[CompileCase]:
    """Both kernels in each precision and of each kind, for points and for rays."""
    cases = []
    names = "rgb sigma g_rgb shares g_sigma g_planes g_layers g_points g_directions".split()
    points = dict(directions=None, depths=None)
    for (precision, (product, gradient)), (kind, field) in itertools.product(
        PRODUCTS.items(), KINDS.items()
    ):
        planes = "*fp16" if precision == "float16" else "*fp32"
        types = dict(INPUTS, planes=planes, **dict.fromkeys(names, "*fp32"))
        shared = dict(field, PRECISION=product)
        for what, absent in {"query": points, "densities of rays": dict(rgb=None)}.items():
            block = forward_block(precision, field["AXES"], field["ACTIVATION"])
            constants = dict(shared, BLOCK=block, **absent)
            name = f"{what}, {precision} {kind}"
            cases.append(
                CompileCase(name, triplane_triton.decode_forward, types, constants, **FORWARD_TILE)
            )
        alone = dict(g_planes=None, g_layers=None)
        still = dict(g_points=None, g_directions=None)
        ways = {
            "density query backward": dict(points, **still, shares=None, g_rgb=None),
            "query backward": dict(points, **still, shares=None),
            "render backward": still,
            "render backward with rays": alone if separately(precision, field["AXES"]) else {},
        }
        for what, absent in ways.items():
            constants = dict(shared, GRADIENTS=gradient, BLOCK=BACKWARD_BLOCK, **absent)
            name, launch = f"{what}, {precision} {kind}", BACKWARD_LAUNCH[precision]
            cases.append(
                CompileCase(name, triplane_triton.decode_backward, types, constants, **launch)
            )
    return cases


def _rays() -> list[CompileCase]:
    """Both kernels in each precision and of each kind."""
    cases = []
    names = "features total distance left g_features g_total g_distance rest shares g_sigma origins"
    for (precision, (product, _)), (kind, field) in itertools.product(
        PRODUCTS.items(), KINDS.items()
    ):
        planes = "*fp16" if precision == "float16" else "*fp32"
        types = dict(INPUTS, planes=planes, **dict.fromkeys(names.split(), "*fp32"))
        types |= dict(bias="fp32", last_delta="fp32")
        rule = "classic" if kind == "classic" else "midpoint"
        constants = dict(field, RULE=rule, CLAMP="softplus", PRECISION=product, BLOCK=BLOCK)
        for name, kernel, stages in (
            ("composite", render_triton.composite_forward, 1),
            ("composite backward", render_triton.composite_backward, STAGES[precision]),
        ):
            name, options = f"{name}, {precision} {kind}", dict(num_warps=WARPS, num_stages=stages)
            cases.append(CompileCase(name, kernel, types, constants, **options))
    return cases
