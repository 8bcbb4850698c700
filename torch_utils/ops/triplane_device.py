"""What the kernels of the volume renderer are made of: functions that run on the device.

A tile is BLOCK samples of one scene. Its features are [BLOCK, C], its hidden layer [BLOCK, HIDDEN],
its colours [BLOCK, COLOURS]; scalars of samples are [BLOCK]. Planes lie one after the other and
channels-last, [N, TEXELS, C], so that a texel is one run of bytes. AXES names the coordinates along
columns and rows of plane after plane, (0, 1, 0, 2) are the planes (x, y) and (x, z); SIZES are the
numbers of columns and rows.

ACTIVATION of the hidden layer is "softplus" or "lrelu"; COLOURING makes colours of outputs,
"sigmoid" or "linear"; RULE of integration is "midpoint" or "classic"; CLAMP makes densities of raw
ones, "softplus" or "relu".

Positions, sums, densities and light are float32 whatever the planes are.
"""

import triton
import triton.language as tl


@triton.jit
def multiply(a, b, PRECISION: tl.constexpr):
    """Matrix product with float32 sums; PRECISION "fp16", "tf32" or "tf32x3" (as float32)."""
    if PRECISION == "fp16":
        product = tl.dot(a.to(tl.float16), b.to(tl.float16))
    else:
        product = tl.dot(a, b, input_precision=PRECISION)
    return product


@triton.jit
def softplus(x):
    """As torch: the identity above 20."""
    return tl.where(x > 20.0, x, tl.log(1.0 + tl.exp(tl.minimum(x, 20.0))))


@triton.jit
def choose(x, y, z, AXIS: tl.constexpr):
    """The coordinate of that number."""
    chosen = x
    if AXIS == 1:
        chosen = y
    if AXIS == 2:
        chosen = z
    return chosen


@triton.jit
def locate(u, SIZE: tl.constexpr):
    """Coordinate of [-1, 1] -> the texel before it, and how far it is on the way to the next.

    Half a texel lies between the edge and the first centre. What is far outside stays outside, but
    within what an integer holds.
    """
    at = (u + 1.0) * (SIZE * 0.5) - 0.5
    at = tl.minimum(tl.maximum(at, -2.0), SIZE + 1.0)
    first = tl.floor(at)
    return first.to(tl.int32), at - first


@triton.jit
def texel(column, row, inside, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr):
    """Offsets [BLOCK, C] of texels in a plane, and which of them exist: beyond it all is zero."""
    exists = inside & (column >= 0) & (column < W) & (row >= 0) & (row < H)
    offsets = ((row * W + column) * C)[:, None] + tl.arange(0, C)[None, :]
    return offsets, exists[:, None]


@triton.jit
def read(plane, column, row, inside, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr):
    """Features [BLOCK, C] of texels."""
    offsets, exists = texel(column, row, inside, H, W, C)
    return tl.load(plane + offsets, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def interpolate(plane, along, down, inside, H: tl.constexpr, W: tl.constexpr, C: tl.constexpr):
    """A plane's features, bilinear, at coordinates of [-1, 1] along columns and rows."""
    i, u = locate(along, W)
    j, v = locate(down, H)
    total = ((1 - u) * (1 - v))[:, None] * read(plane, i, j, inside, H, W, C)
    total += (u * (1 - v))[:, None] * read(plane, i + 1, j, inside, H, W, C)
    total += ((1 - u) * v)[:, None] * read(plane, i, j + 1, inside, H, W, C)
    total += (u * v)[:, None] * read(plane, i + 1, j + 1, inside, H, W, C)
    return total


@triton.jit
def gather(planes, x, y, z, inside, AXES: tl.constexpr, SIZES: tl.constexpr, C: tl.constexpr):
    """Sum of all planes' features at points of the cube [-1, 1]^3 -> [BLOCK, C]."""
    total = tl.zeros([x.shape[0], C], tl.float32)
    for p in tl.static_range(len(AXES) // 2):
        along, down = choose(x, y, z, AXES[2 * p]), choose(x, y, z, AXES[2 * p + 1])
        total += interpolate(planes, along, down, inside, SIZES[2 * p + 1], SIZES[2 * p], C)
        planes += SIZES[2 * p] * SIZES[2 * p + 1] * C
    return total


@triton.jit
def add_to(grads, share, grad, column, row, inside, H: tl.constexpr, W: tl.constexpr):
    """Adds a share [BLOCK] of grad [BLOCK, C] to texels."""
    offsets, exists = texel(column, row, inside, H, W, grad.shape[1])
    tl.atomic_add(grads + offsets, grad * share[:, None], mask=exists, sem="relaxed")


@triton.jit
def spread(plane, grad, along, down, inside, H: tl.constexpr, W: tl.constexpr):
    """Adjoint of `interpolate` in the plane."""
    i, u = locate(along, W)
    j, v = locate(down, H)
    add_to(plane, (1 - u) * (1 - v), grad, i, j, inside, H, W)
    add_to(plane, u * (1 - v), grad, i + 1, j, inside, H, W)
    add_to(plane, (1 - u) * v, grad, i, j + 1, inside, H, W)
    add_to(plane, u * v, grad, i + 1, j + 1, inside, H, W)


@triton.jit
def scatter(grads, grad, x, y, z, inside, AXES: tl.constexpr, SIZES: tl.constexpr):
    """Adjoint of `gather` in the planes: adds grad [BLOCK, C] to the texels of every plane."""
    for p in tl.static_range(len(AXES) // 2):
        along, down = choose(x, y, z, AXES[2 * p]), choose(x, y, z, AXES[2 * p + 1])
        spread(grads, grad, along, down, inside, SIZES[2 * p + 1], SIZES[2 * p])
        grads += SIZES[2 * p] * SIZES[2 * p + 1] * grad.shape[1]


@triton.jit
def tilt(plane, grad, along, down, inside, H: tl.constexpr, W: tl.constexpr):
    """Adjoint of `interpolate` in the two coordinates, [BLOCK] each."""
    i, u = locate(along, W)
    j, v = locate(down, H)
    # How much each of the four texels counts for the loss.
    a = tl.sum(grad * read(plane, i, j, inside, H, W, grad.shape[1]), 1)
    b = tl.sum(grad * read(plane, i + 1, j, inside, H, W, grad.shape[1]), 1)
    c = tl.sum(grad * read(plane, i, j + 1, inside, H, W, grad.shape[1]), 1)
    d = tl.sum(grad * read(plane, i + 1, j + 1, inside, H, W, grad.shape[1]), 1)
    columns = (W * 0.5) * ((1 - v) * (b - a) + v * (d - c))
    rows = (H * 0.5) * ((1 - u) * (c - a) + u * (d - b))
    return columns, rows


@triton.jit
def slopes(planes, grad, x, y, z, inside, AXES: tl.constexpr, SIZES: tl.constexpr):
    """Adjoint of `gather` in the points: grad [BLOCK, C] -> that along x, y and z, [BLOCK] each."""
    along_x, along_y, along_z = tl.zeros_like(x), tl.zeros_like(x), tl.zeros_like(x)
    for p in tl.static_range(len(AXES) // 2):
        along, down = choose(x, y, z, AXES[2 * p]), choose(x, y, z, AXES[2 * p + 1])
        columns, rows = tilt(planes, grad, along, down, inside, SIZES[2 * p + 1], SIZES[2 * p])
        along_x += add_if(AXES[2 * p] == 0, columns, AXES[2 * p + 1] == 0, rows)
        along_y += add_if(AXES[2 * p] == 1, columns, AXES[2 * p + 1] == 1, rows)
        along_z += add_if(AXES[2 * p] == 2, columns, AXES[2 * p + 1] == 2, rows)
        planes += SIZES[2 * p] * SIZES[2 * p + 1] * grad.shape[1]
    return along_x, along_y, along_z


@triton.jit
def add_if(FIRST: tl.constexpr, a, SECOND: tl.constexpr, b):
    """Sum of those of a and b whose condition holds."""
    total = tl.zeros_like(a)
    if FIRST:
        total += a
    if SECOND:
        total += b
    return total


@triton.jit
def hidden_layer(features, w1, b1, PRECISION: tl.constexpr):
    """features [BLOCK, C], w1 [C, HIDDEN], b1 -> before the activation, [BLOCK, HIDDEN]."""
    return multiply(features, w1, PRECISION) + b1[None, :]


@triton.jit
def activate(x, ACTIVATION: tl.constexpr):
    """Softplus, or leaky ReLU with slope 0.2 and gain sqrt 2."""
    if ACTIVATION == "softplus":
        y = softplus(x)
    else:
        y = tl.where(x > 0, x, x * 0.2) * 1.4142135623730951
    return y


@triton.jit
def activation_slope(x, ACTIVATION: tl.constexpr):
    """The derivative of `activate`."""
    if ACTIVATION == "softplus":
        slope = tl.sigmoid(x)
    else:
        slope = tl.where(x > 0, 1.4142135623730951, 0.28284271247461906)
    return slope


@triton.jit
def density(hidden, weights, bias):
    """hidden [BLOCK, HIDDEN] after the activation, weights [HIDDEN] -> raw density [BLOCK]."""
    return tl.sum(hidden * weights[None, :], 1) + bias


@triton.jit
def colour(hidden, w2, b2, COLOURING: tl.constexpr, PRECISION: tl.constexpr):
    """hidden [BLOCK, HIDDEN], w2 [HIDDEN, COLOURS], b2 [COLOURS] -> colours [BLOCK, COLOURS]:
    linear, or the slightly widened sigmoid of mip-NeRF (Barron et al. 2021)."""
    out = multiply(hidden, w2, PRECISION) + b2[None, :]
    if COLOURING == "sigmoid":
        out = tl.sigmoid(out) * 1.002 - 0.001
    return out


@triton.jit
def colour_slope(hidden, w2, b2, PRECISION: tl.constexpr):
    """The derivative of the widened sigmoid in what it is taken of, [BLOCK, COLOURS]."""
    sigmoid = tl.sigmoid(multiply(hidden, w2, PRECISION) + b2[None, :])
    return 1.002 * sigmoid * (1.0 - sigmoid)


@triton.jit
def of_piece(here, after, RULE: tl.constexpr):
    """A piece's value: that of its middle, or of the sample that it begins with."""
    if RULE == "midpoint":
        value = (here + after) * 0.5
    else:
        value = here
    return value


@triton.jit
def absorption(raw, length, bias, CLAMP: tl.constexpr):
    """Share of light that pieces of raw densities absorb, and what passes: 1e-10 of it does
    whatever they are."""
    if CLAMP == "softplus":
        thickness = softplus(raw + bias) * length
    else:
        thickness = tl.maximum(raw + bias, 0.0) * length
    absorbed = 1.0 - tl.exp(-thickness)
    return absorbed, (1.0 - absorbed) + 1e-10


@triton.jit
def density_slope(raw, bias, CLAMP: tl.constexpr):
    """The derivative of a density in its raw one."""
    if CLAMP == "softplus":
        slope = tl.sigmoid(raw + bias)
    else:
        slope = tl.where(raw + bias > 0, 1.0, 0.0)
    return slope


@triton.jit
def load_matrix(start, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The transpose [COLUMNS, ROWS] of a matrix [ROWS, COLUMNS]."""
    rows, columns = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    return tl.load(start + rows[None, :] * COLUMNS + columns[:, None])


@triton.jit
def load_layers(w1, b1, w2, b2, C: tl.constexpr, HIDDEN: tl.constexpr, COLOURS: tl.constexpr):
    """Stored w1 [HIDDEN, C], b1 [HIDDEN], w2 [1 + COLOURS, HIDDEN], b2 [1 + COLOURS] -> w1
    [C, HIDDEN], b1, row and bias of the density, w2 [HIDDEN, COLOURS] and b2 of the colours."""
    units = tl.arange(0, HIDDEN)
    return (
        load_matrix(w1, HIDDEN, C),
        tl.load(b1 + units),
        tl.load(w2 + units),
        tl.load(b2),
        load_matrix(w2 + HIDDEN, COLOURS, HIDDEN),
        tl.load(b2 + 1 + tl.arange(0, COLOURS)),
    )
