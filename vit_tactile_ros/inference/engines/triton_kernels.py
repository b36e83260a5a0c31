"""The network as a few large GPU kernels in Triton. A kernel ends where its programs need the results of one another.

A block of torch is about 30 kernels, each of which takes longer to start than to run on the few tokens of a tactile
image. Here it is five: `project_qkv` (layer norm, queries, keys, values, random features), `sum_context`, `attend`
(attention, output projection, residual), `widen` (layer norm, first layer of the MLP, GELU) and `narrow` (second layer,
residual). `convolve` embeds the patches, and `classify` is a head with its softmax.

Gains and biases of layer norms are folded into the weights that follow them (`triton_steps.py`). Sums are float32, as
is the residual; products take inputs of the type of the weights. With DEPENDENT, a kernel starts while the one before
it ends, loads its weights, and then waits for the other's results (programmatic dependent launch, on GPUs from Hopper).
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait


@triton.jit
def _begin(DEPENDENT: tl.constexpr):
    """Let the next kernel start."""
    if DEPENDENT:
        gdc_launch_dependents()


@triton.jit
def _wait(DEPENDENT: tl.constexpr):
    """Wait until the kernels before this one have ended; only weights may be read earlier."""
    if DEPENDENT:
        gdc_wait()


@triton.jit
def _normalise(x, d, D: tl.constexpr):
    """Layer norm without gain and bias of rows of D numbers, in a block that may be wider."""
    mean = tl.sum(x, 1) / D
    centred = tl.where(d[None, :] < D, x - mean[:, None], 0.0)
    return centred * tl.rsqrt(tl.sum(centred * centred, 1) / D + 1e-5)[:, None]


@triton.jit(do_not_specialize=['rows', 'per_image', 'out_width', 'height', 'width'])
def convolve(x, weight, bias, position, kept, out, rows, per_image, out_width, height, width, stride_image, stride_y,
             stride_x, stride_channel, C_OUT: tl.constexpr, CHANNELS: tl.constexpr, SIDE: tl.constexpr,
             STRIDE: tl.constexpr, PAD: tl.constexpr, PLANAR: tl.constexpr, RELU: tl.constexpr, IS_LAST: tl.constexpr,
             HAS_KEPT: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, DEPENDENT: tl.constexpr):
    """A convolution as a matrix product, x to out (rows, C_OUT); weight: (inputs, C_OUT).

    The inputs of an output are ordered by channel, y, x with PLANAR, otherwise by y, x, channel. The last one of a stem
    adds the position embedding, (patches, C_OUT), and computes the patches `kept`, (images, per_image), if not all.
    """
    _begin(DEPENDENT)
    inputs: tl.constexpr = CHANNELS * SIDE * SIDE
    r = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    is_row, is_column = r < rows, n < C_OUT
    _wait(DEPENDENT)
    image, place = r // per_image, r % per_image
    if HAS_KEPT:
        place = tl.load(kept + r, mask=is_row, other=0).to(tl.int32)
    top, left = (place // out_width) * STRIDE - PAD, (place % out_width) * STRIDE - PAD
    total = tl.zeros((BM, BN), tl.float32)
    for first in range(0, inputs, BK):
        k = first + tl.arange(0, BK)
        if PLANAR:
            channel, dy, dx = k // (SIDE * SIDE), (k // SIDE) % SIDE, k % SIDE
        else:
            channel, dy, dx = k % CHANNELS, k // (CHANNELS * SIDE), (k // CHANNELS) % SIDE
        y, across = top[:, None] + dy[None, :], left[:, None] + dx[None, :]
        inside = (is_row[:, None] & (k < inputs)[None, :] & (y >= 0) & (y < height) & (across >= 0) & (across < width))
        values = tl.load(x + (image * stride_image)[:, None] + y * stride_y + across * stride_x
                         + (channel * stride_channel)[None, :], mask=inside, other=0.0)
        w = tl.load(weight + k[:, None] * C_OUT + n[None, :], mask=(k < inputs)[:, None] & is_column[None, :],
                    other=0.0)
        total = tl.dot(values.to(w.dtype), w, total, input_precision='ieee')
    total += tl.load(bias + n, mask=is_column, other=0.0)[None, :]
    if RELU:
        total = tl.maximum(total, 0.0)
    is_output = is_row[:, None] & is_column[None, :]
    if IS_LAST:
        total += tl.load(position + place[:, None] * C_OUT + n[None, :], mask=is_output, other=0.0)
    tl.store(out + r[:, None] * C_OUT + n[None, :], total.to(out.dtype.element_ty), mask=is_output)


@triton.jit(do_not_specialize=['tokens', 'tiles', 'images'])
def project_qkv(x, weight, bias, gain, projection, features, values, peaks, tokens, tiles, images, D: tl.constexpr,
                HEADS: tl.constexpr, HEAD: tl.constexpr, M: tl.constexpr, IS_RELU: tl.constexpr, HAS_GAIN: tl.constexpr,
                EPSILON: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, BF: tl.constexpr, DEPENDENT: tl.constexpr):
    """Layer norm and one of query, key and value of one head; random features of queries and keys.

    x (images, tokens, D); weight (D, 3 D), gain (2, HEAD) of `QKNorm`, projection (HEAD, M) with its scale -> features
    (2, images, HEADS, tokens, M), those of softmax keys without epsilon and relative to their largest logit in this
    tile, peaks (images, HEADS, tiles); values (images, HEADS, tokens, HEAD).
    """
    _begin(DEPENDENT)
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    part = tl.program_id(1)
    which, head = part // HEADS, part % HEADS
    n = tile * BM + tl.arange(0, BM)
    d, e, m = tl.arange(0, BD), tl.arange(0, HEAD), tl.arange(0, BF)
    is_token = n < tokens
    w = tl.load(weight + d[:, None] * (3 * D) + (part * HEAD + e)[None, :], mask=(d < D)[:, None], other=0.0)
    b = tl.load(bias + part * HEAD + e)
    _wait(DEPENDENT)
    block = tl.load(x + (image * tokens + n)[:, None] * D + d[None, :], mask=is_token[:, None] & (d < D)[None, :],
                    other=0.0).to(tl.float32)
    y = tl.dot(_normalise(block, d, D).to(w.dtype), w, input_precision='ieee') + b[None, :]
    row = (image * HEADS + head) * tokens + n
    if which == 2:
        tl.store(values + row[:, None] * HEAD + e[None, :], y.to(values.dtype.element_ty), mask=is_token[:, None])
    else:
        if HAS_GAIN:
            y = y * tl.rsqrt(tl.sum(y * y, 1) / HEAD + 1e-6)[:, None] * tl.load(gain + which * HEAD + e)[None, :]
        p = tl.load(projection + e[:, None] * M + m[None, :], mask=(m < M)[None, :], other=0.0)
        logits = tl.dot(y.to(p.dtype), p, input_precision='ieee')
        if IS_RELU:
            found = tl.maximum(logits + EPSILON, EPSILON)
        else:
            half_norm = tl.sum(y * y, 1) * (0.5 / tl.sqrt(HEAD * 1.0))
            valid = tl.where((m < M)[None, :] & is_token[:, None], logits, float('-inf'))
            if which == 0:
                largest = tl.where(is_token, tl.max(valid, 1), 0.0)
                found = tl.exp(logits - (largest + half_norm)[:, None]) + EPSILON
            else:
                peak = tl.max(tl.max(valid, 1), 0)
                found = tl.exp(logits - peak - half_norm[:, None])
                tl.store(peaks + (image * HEADS + head) * tiles + tile, peak)
        place = which * images * HEADS * tokens + row
        tl.store(features + place[:, None] * M + m[None, :], found.to(features.dtype.element_ty),
                 mask=is_token[:, None] & (m < M)[None, :])


@triton.jit(do_not_specialize=['tokens', 'tiles', 'images'])
def sum_context(features, values, peaks, weights, context, sums, tokens, tiles, images, HEADS: tl.constexpr,
                HEAD: tl.constexpr, M: tl.constexpr, IS_RELU: tl.constexpr, HAS_WEIGHTS: tl.constexpr,
                EPSILON: tl.constexpr, TILE: tl.constexpr, BT: tl.constexpr, BN: tl.constexpr, BF: tl.constexpr,
                DEPENDENT: tl.constexpr):
    """Keys and values of one head summed over the tokens: context (images, HEADS, M, HEAD), sums (images, HEADS, M)."""
    _begin(DEPENDENT)
    head = tl.program_id(0)  # of all images
    m, e, t = tl.program_id(1) * BF + tl.arange(0, BF), tl.arange(0, HEAD), tl.arange(0, BT)
    _wait(DEPENDENT)
    if not IS_RELU:
        peak = tl.max(tl.load(peaks + head * tiles + t, mask=t < tiles, other=float('-inf')), 0)
    keys = features + (images * HEADS + head) * tokens * M
    total = tl.zeros((BF, HEAD), tl.float32)
    summed = tl.zeros((BF,), tl.float32)
    for first in range(0, tokens, BN):
        n = first + tl.arange(0, BN)
        inside = (n < tokens)[:, None] & (m < M)[None, :]
        k = tl.load(keys + n[:, None] * M + m[None, :], mask=inside, other=0.0).to(tl.float32)
        if not IS_RELU:
            own = tl.load(peaks + head * tiles + n // TILE, mask=n < tokens, other=float('-inf'))
            k = k * tl.exp(own - peak)[:, None] + EPSILON
        if HAS_WEIGHTS:
            k *= tl.load(weights + (head // HEADS) * tokens + n, mask=n < tokens, other=0.0).to(tl.float32)[:, None]
        v = tl.load(values + (head * tokens + n)[:, None] * HEAD + e[None, :], mask=(n < tokens)[:, None], other=0.0)
        k = tl.where(inside, k, 0.0).to(v.dtype)
        total = tl.dot(tl.trans(k), v, total, input_precision='ieee')
        summed += tl.sum(k.to(tl.float32), 0)
    tl.store(context + (head * M + m)[:, None] * HEAD + e[None, :], total.to(context.dtype.element_ty),
             mask=(m < M)[:, None])
    tl.store(sums + head * M + m, summed, mask=m < M)


@triton.jit(do_not_specialize=['tokens', 'tiles'])
def attend(x, features, context, sums, weight, bias, tokens, tiles, D: tl.constexpr, HEADS: tl.constexpr,
           HEAD: tl.constexpr, M: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr, BF: tl.constexpr,
           DEPENDENT: tl.constexpr):
    """Attention of the queries, all heads, and the output projection, (D, D), added to x."""
    _begin(DEPENDENT)
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    n, d, e = tile * BM + tl.arange(0, BM), tl.arange(0, BD), tl.arange(0, HEAD)
    is_token = n < tokens
    total = tl.zeros((BM, BD), tl.float32) + tl.load(bias + d, mask=d < D, other=0.0)[None, :]
    _wait(DEPENDENT)
    for head in tl.static_range(HEADS):
        w = tl.load(weight + (head * HEAD + e)[:, None] * D + d[None, :], mask=(d < D)[None, :], other=0.0)
        y = tl.zeros((BM, HEAD), tl.float32)
        divisor = tl.zeros((BM,), tl.float32)
        at = image * HEADS + head
        for first in tl.static_range(0, M, BF):
            m = first + tl.arange(0, BF)
            q = tl.load(features + (at * tokens + n)[:, None] * M + m[None, :],
                        mask=is_token[:, None] & (m < M)[None, :], other=0.0)
            c = tl.load(context + (at * M + m)[:, None] * HEAD + e[None, :], mask=(m < M)[:, None], other=0.0)
            y = tl.dot(q, c, y, input_precision='ieee')
            divisor += tl.sum(q.to(tl.float32) * tl.load(sums + at * M + m, mask=m < M, other=0.0)[None, :], 1)
        y = y / tl.where(is_token, divisor, 1.0)[:, None]
        total = tl.dot(y.to(w.dtype), w, total, input_precision='ieee')
    place = x + (image * tokens + n)[:, None] * D + d[None, :]
    is_output = is_token[:, None] & (d < D)[None, :]
    tl.store(place, tl.load(place, mask=is_output, other=0.0) + total, mask=is_output)


@triton.jit(do_not_specialize=['rows'])
def widen(x, weight, bias, out, rows, D: tl.constexpr, HIDDEN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
          BD: tl.constexpr, DEPENDENT: tl.constexpr):
    """Layer norm, a linear layer, (D, HIDDEN), and GELU: x (rows, D) to out (rows, HIDDEN)."""
    _begin(DEPENDENT)
    r, n, d = (tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BD))
    w = tl.load(weight + d[:, None] * HIDDEN + n[None, :], mask=(d < D)[:, None] & (n < HIDDEN)[None, :], other=0.0)
    b = tl.load(bias + n, mask=n < HIDDEN, other=0.0)
    _wait(DEPENDENT)
    block = tl.load(x + r[:, None] * D + d[None, :], mask=(r < rows)[:, None] & (d < D)[None, :], other=0.0)
    y = tl.dot(_normalise(block, d, D).to(w.dtype), w, input_precision='ieee') + b[None, :]
    y = 0.5 * y * (1.0 + tl.erf(y * 0.7071067811865476))
    tl.store(out + r[:, None] * HIDDEN + n[None, :], y.to(out.dtype.element_ty),
             mask=(r < rows)[:, None] & (n < HIDDEN)[None, :])


@triton.jit(do_not_specialize=['rows'])
def narrow(hidden, weight, bias, x, rows, D: tl.constexpr, HIDDEN: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
           BK: tl.constexpr, DEPENDENT: tl.constexpr):
    """A linear layer, (HIDDEN, D), of hidden (rows, HIDDEN), added to x (rows, D)."""
    _begin(DEPENDENT)
    r, n = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    total = tl.zeros((BM, BN), tl.float32) + tl.load(bias + n, mask=n < D, other=0.0)[None, :]
    _wait(DEPENDENT)
    for first in range(0, HIDDEN, BK):
        k = first + tl.arange(0, BK)
        h = tl.load(hidden + r[:, None] * HIDDEN + k[None, :], mask=(r < rows)[:, None] & (k < HIDDEN)[None, :],
                    other=0.0)
        w = tl.load(weight + k[:, None] * D + n[None, :], mask=(k < HIDDEN)[:, None] & (n < D)[None, :], other=0.0)
        total = tl.dot(h, w, total, input_precision='ieee')
    place = x + r[:, None] * D + n[None, :]
    is_output = (r < rows)[:, None] & (n < D)[None, :]
    tl.store(place, tl.load(place, mask=is_output, other=0.0) + total, mask=is_output)


@triton.jit(do_not_specialize=['index', 'tokens'])
def classify(x, weight, bias, queries, weights, before, temperatures, out, index, tokens, D: tl.constexpr,
             CLASSES: tl.constexpr, QUERIES: tl.constexpr, HAS_WEIGHTS: tl.constexpr, ADDS: tl.constexpr,
             KEEPS: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr, BC: tl.constexpr, DEPENDENT: tl.constexpr):
    """Layer norm, the mean token or one per query, the classifier: logits and probabilities, out (images, 2 CLASSES).

    weight (CLASSES, max(QUERIES, 1) D), queries (QUERIES, D). ADDS: to the logits of the exit before, (images,
    CLASSES); KEEPS: writes the sum there.
    """
    _begin(DEPENDENT)
    image = tl.program_id(0)
    d, c = tl.arange(0, BD), tl.arange(0, BC)
    is_weight = (c < CLASSES)[:, None] & (d < D)[None, :]
    count: tl.constexpr = QUERIES if QUERIES > 0 else 1
    logits = tl.load(bias + c, mask=c < CLASSES, other=0.0)
    _wait(DEPENDENT)
    for which in tl.static_range(count):
        total = tl.zeros((BD,), tl.float32)
        mass = 0.0
        if QUERIES > 0:
            query = tl.load(queries + which * D + d, mask=d < D, other=0.0)
            peak = -1e30
        for first in range(0, tokens, BN):
            n = first + tl.arange(0, BN)
            is_token = n < tokens
            block = tl.load(x + (image * tokens + n)[:, None] * D + d[None, :],
                            mask=is_token[:, None] & (d < D)[None, :], other=0.0)
            block = _normalise(block, d, D)
            share = is_token.to(tl.float32)
            if HAS_WEIGHTS:
                share = tl.load(weights + image * tokens + n, mask=is_token, other=0.0).to(tl.float32)
            if QUERIES > 0:
                scores = tl.sum(block * query[None, :], 1)
                highest = tl.maximum(peak, tl.max(tl.where(share > 0, scores, -1e30), 0))
                share = tl.where(share > 0, share * tl.exp(scores - highest), 0.0)
                total, mass = total * tl.exp(peak - highest), mass * tl.exp(peak - highest)
                peak = highest
            total += tl.sum(block * share[:, None], 0)
            mass += tl.sum(share, 0)
        w = tl.load(weight + c[:, None] * (count * D) + (which * D + d)[None, :], mask=is_weight, other=0.0)
        logits += tl.sum(w * (total / mass)[None, :], 1)
    if ADDS:
        logits += tl.load(before + image * CLASSES + c, mask=c < CLASSES, other=0.0)
    if KEEPS:
        tl.store(before + image * CLASSES + c, logits, mask=c < CLASSES)
    scaled = tl.where(c < CLASSES, logits / tl.load(temperatures + index), float('-inf'))
    powers = tl.exp(scaled - tl.max(scaled, 0))
    tl.store(out + image * 2 * CLASSES + c, logits, mask=c < CLASSES)
    tl.store(out + image * 2 * CLASSES + CLASSES + c, powers / tl.sum(powers, 0), mask=c < CLASSES)
