"""Triton kernels of deformable attention. Importing this file needs Triton.

One program answers ``BLOCK_BAGS`` bags, a bag being one head of one query; lanes run over the channels of the
head, so that each corner of a sample is one contiguous read. Levels and corners are unrolled, points are a
loop. Sums are kept in ``ACCUMULATE``, whatever the inputs are.

Shapes: B batch, N pixels of all levels, Q queries, M heads, L levels, P points, C channels of one head.
A level is three numbers of the tuple ``levels``: height, width, and index of its first pixel.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _place(address, length, live, ACCUMULATE: tl.constexpr):
    """The pixel before a location along one side, and how far past its centre that lies, in [0, 1)."""
    place = tl.load(address, mask=live, other=0.0).to(ACCUMULATE) * length - 0.5
    before = tl.floor(place)
    return before, place - before


@triton.jit
def _corner(
    values,
    row,
    column,
    height,
    width,
    first,
    stride,
    channels,
    live,
    NUM_CHANNELS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
):
    """Address, mask and numbers of one pixel for each bag; zeros outside the level."""
    # Compared as floats: a huge coordinate or NaN must not become a valid index.
    inside = live & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    pixel = tl.where(inside, row, 0.0).to(tl.int64) * width + tl.where(inside, column, 0.0).to(tl.int64)
    address = (first + pixel * stride)[:, None] + channels[None, :]
    mask = inside[:, None] & (channels < NUM_CHANNELS)[None, :]
    return address, mask, tl.load(values + address, mask=mask, other=0.0).to(ACCUMULATE)


@triton.jit
def forward_kernel(
    values,  # (B, N, M, C)
    locations,  # (B, Q, M, L, P, 2)
    weights,  # (B, Q, M, L, P)
    output,  # (B, Q, M, C)
    levels,
    num_bags,  # B x Q x M
    num_queries,
    num_pixels,
    NUM_HEADS: tl.constexpr,
    NUM_LEVELS: tl.constexpr,
    NUM_POINTS: tl.constexpr,
    NUM_CHANNELS: tl.constexpr,
    BLOCK_BAGS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
):
    """Weighted sums of samples."""
    bags = tl.program_id(0).to(tl.int64) * BLOCK_BAGS + tl.arange(0, BLOCK_BAGS)
    live = bags < num_bags
    channels = tl.arange(0, BLOCK_CHANNELS)
    stride: tl.constexpr = NUM_HEADS * NUM_CHANNELS  # from pixel to pixel
    picture = bags // NUM_HEADS // num_queries
    first = picture * num_pixels * stride + (bags % NUM_HEADS) * NUM_CHANNELS
    total = tl.zeros((BLOCK_BAGS, BLOCK_CHANNELS), dtype=ACCUMULATE)
    for level in tl.static_range(NUM_LEVELS):
        height = levels[3 * level]
        width = levels[3 * level + 1]
        start = first + levels[3 * level + 2] * stride
        for point in range(NUM_POINTS):
            sample = (bags * NUM_LEVELS + level) * NUM_POINTS + point
            left, right_share = _place(locations + 2 * sample, width, live, ACCUMULATE)
            top, bottom_share = _place(locations + 2 * sample + 1, height, live, ACCUMULATE)
            weight = tl.load(weights + sample, mask=live, other=0.0).to(ACCUMULATE)
            for corner in tl.static_range(4):
                _, _, pixel = _corner(
                    values, top + corner // 2, left + corner % 2, height, width, start, stride, channels,
                    live, NUM_CHANNELS, ACCUMULATE,
                )  # fmt: skip
                share_y = bottom_share if corner // 2 else 1 - bottom_share
                share_x = right_share if corner % 2 else 1 - right_share
                total += pixel * (weight * share_y * share_x)[:, None]
    address = bags[:, None] * NUM_CHANNELS + channels[None, :]
    mask = live[:, None] & (channels < NUM_CHANNELS)[None, :]
    tl.store(output + address, total.to(output.dtype.element_ty), mask=mask)


@triton.jit
def backward_kernel(
    grad_output,  # (B, Q, M, C)
    values,  # (B, N, M, C)
    locations,  # (B, Q, M, L, P, 2)
    weights,  # (B, Q, M, L, P)
    grad_values,  # (B, N, M, C), zeros, added to
    grad_locations,  # (B, Q, M, L, P, 2)
    grad_weights,  # (B, Q, M, L, P)
    levels,
    num_bags,  # B x Q x M
    num_queries,
    num_pixels,
    NUM_HEADS: tl.constexpr,
    NUM_LEVELS: tl.constexpr,
    NUM_POINTS: tl.constexpr,
    NUM_CHANNELS: tl.constexpr,
    BLOCK_BAGS: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    ACCUMULATE: tl.constexpr,
):
    """Gradients of all three inputs in one pass over the samples; values are summed atomically."""
    bags = tl.program_id(0).to(tl.int64) * BLOCK_BAGS + tl.arange(0, BLOCK_BAGS)
    live = bags < num_bags
    channels = tl.arange(0, BLOCK_CHANNELS)
    stride: tl.constexpr = NUM_HEADS * NUM_CHANNELS
    picture = bags // NUM_HEADS // num_queries
    first = picture * num_pixels * stride + (bags % NUM_HEADS) * NUM_CHANNELS
    own = bags[:, None] * NUM_CHANNELS + channels[None, :]
    own_mask = live[:, None] & (channels < NUM_CHANNELS)[None, :]
    pull = tl.load(grad_output + own, mask=own_mask, other=0.0).to(ACCUMULATE)
    for level in tl.static_range(NUM_LEVELS):
        height = levels[3 * level]
        width = levels[3 * level + 1]
        start = first + levels[3 * level + 2] * stride
        for point in range(NUM_POINTS):
            sample = (bags * NUM_LEVELS + level) * NUM_POINTS + point
            left, right_share = _place(locations + 2 * sample, width, live, ACCUMULATE)
            top, bottom_share = _place(locations + 2 * sample + 1, height, live, ACCUMULATE)
            weight = tl.load(weights + sample, mask=live, other=0.0).to(ACCUMULATE)
            pull_weight = tl.zeros((BLOCK_BAGS,), dtype=ACCUMULATE)
            pull_x = tl.zeros((BLOCK_BAGS,), dtype=ACCUMULATE)
            pull_y = tl.zeros((BLOCK_BAGS,), dtype=ACCUMULATE)
            for corner in tl.static_range(4):
                address, mask, pixel = _corner(
                    values, top + corner // 2, left + corner % 2, height, width, start, stride, channels,
                    live, NUM_CHANNELS, ACCUMULATE,
                )  # fmt: skip
                share_y = bottom_share if corner // 2 else 1 - bottom_share
                share_x = right_share if corner % 2 else 1 - right_share
                given = pull * (weight * share_y * share_x)[:, None]
                tl.atomic_add(grad_values + address, given, mask=mask, sem="relaxed")
                along = tl.sum(pull * pixel, axis=1)
                pull_weight += along * share_y * share_x
                pull_x += along * share_y * (1 if corner % 2 else -1)
                pull_y += along * share_x * (1 if corner // 2 else -1)
            tl.store(grad_weights + sample, pull_weight.to(grad_weights.dtype.element_ty), mask=live)
            pull_x = pull_x * weight * width
            pull_y = pull_y * weight * height
            tl.store(grad_locations + 2 * sample, pull_x.to(grad_locations.dtype.element_ty), mask=live)
            tl.store(grad_locations + 2 * sample + 1, pull_y.to(grad_locations.dtype.element_ty), mask=live)
