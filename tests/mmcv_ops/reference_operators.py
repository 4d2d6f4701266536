"""Slow operators in plain loops, written from the papers, to compare the fast ones with."""

import math
from itertools import product

import numpy as np


def intersection_over_union(first, second, offset=0):
    width = min(first[2], second[2]) - max(first[0], second[0]) + offset
    height = min(first[3], second[3]) - max(first[1], second[1]) + offset
    intersection = max(width, 0) * max(height, 0)
    areas = sum((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (first, second))
    return intersection / (areas - intersection)


def nms(boxes, scores, iou_threshold, offset=0):
    kept = []
    for candidate in sorted(range(len(boxes)), key=lambda index: -scores[index]):
        overlaps = (intersection_over_union(boxes[candidate], boxes[k], offset) for k in kept)
        if all(overlap <= iou_threshold for overlap in overlaps):
            kept.append(candidate)
    return kept


def soft_nms(boxes, scores, method, iou_threshold, sigma, min_score, offset=0):
    """Indices and lowered scores; the best box is taken before low scores are dropped."""
    remaining = dict(enumerate(scores))
    result = []
    while remaining:
        best = max(remaining, key=remaining.get)
        result.append((best, remaining.pop(best)))
        for index in list(remaining):
            overlap = intersection_over_union(boxes[best], boxes[index], offset)
            if method == 'gaussian':
                remaining[index] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= iou_threshold:
                remaining[index] *= 1 - overlap if method == 'linear' else 0
            if remaining[index] < min_score:
                del remaining[index]
    return result


def roi_align(features, rois, size, spatial_scale, sampling_ratio, aligned, mode='avg'):
    output = np.zeros((len(rois), features.shape[1], *size))
    for region, channel in product(range(len(rois)), range(features.shape[1])):
        plane = features[int(rois[region, 0]), channel]
        x1, y1, x2, y2 = rois[region, 1:] * spatial_scale - (0.5 if aligned else 0)
        height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
        rows = sampling_ratio if sampling_ratio > 0 else math.ceil(height / size[0])
        columns = sampling_ratio if sampling_ratio > 0 else math.ceil(width / size[1])
        for bin_y, bin_x in product(range(size[0]), range(size[1])):
            samples = [
                _clamped_sample(
                    plane,
                    y1 + (bin_y + (row + 0.5) / rows) * height / size[0],
                    x1 + (bin_x + (column + 0.5) / columns) * width / size[1],
                )
                for row, column in product(range(rows), range(columns))
            ]
            empty = 0 if mode == 'avg' else np.finfo(output.dtype).min
            pooled = {'avg': np.mean, 'max': np.max}[mode](samples) if samples else empty
            output[region, channel, bin_y, bin_x] = pooled
    return output


def deform_conv(
    features, weight, offset, mask=None, bias=None, stride=1, padding=0, dilation=1, deform_groups=1
):
    """Groups follow from the weight's shape."""
    batch, channels = features.shape[:2]
    outputs, group_channels, kernel_h, kernel_w = weight.shape
    output = np.zeros((batch, outputs, *offset.shape[2:]))
    for image, out, y, x in np.ndindex(output.shape):
        total = 0.0 if bias is None else bias[out]
        first = out // (outputs * group_channels // channels) * group_channels
        for within, row, column in product(range(group_channels), range(kernel_h), range(kernel_w)):
            channel = first + within
            group = channel // (channels // deform_groups)
            cell = group * kernel_h * kernel_w + row * kernel_w + column
            moved_y, moved_x = offset[image, 2 * cell : 2 * cell + 2, y, x]
            sample = sample_with_zeros(
                features[image, channel],
                y * stride - padding + row * dilation + moved_y,
                x * stride - padding + column * dilation + moved_x,
            )
            modulation = 1.0 if mask is None else mask[image, cell, y, x]
            total += weight[out, within, row, column] * sample * modulation
        output[image, out, y, x] = total
    return output


def multi_scale_attention(value, shapes, locations, weights):
    batch, _, heads, dimensions = value.shape
    queries, levels, points = locations.shape[1], locations.shape[3], locations.shape[4]
    output = np.zeros((batch, queries, heads, dimensions))
    starts = np.cumsum([0, *(height * width for height, width in shapes)])
    for image, query, head in product(range(batch), range(queries), range(heads)):
        for level, point in product(range(levels), range(points)):
            height, width = shapes[level]
            x, y = locations[image, query, head, level, point]
            for dimension in range(dimensions):
                plane = value[image, starts[level] : starts[level + 1], head, dimension]
                sample = sample_with_zeros(
                    plane.reshape(height, width), y * height - 0.5, x * width - 0.5
                )
                weight = weights[image, query, head, level, point]
                output[image, query, head, dimension] += weight * sample
    return output.reshape(batch, queries, heads * dimensions)


def sample_with_zeros(plane, y, x):
    """Bilinear sample of a plane that is zero outside."""
    total = 0.0
    for row, column in product(
        (math.floor(y), math.floor(y) + 1), (math.floor(x), math.floor(x) + 1)
    ):
        if 0 <= row < plane.shape[0] and 0 <= column < plane.shape[1]:
            total += plane[row, column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def _clamped_sample(plane, y, x):
    """Bilinear sample that repeats the border for one cell, and is zero farther out."""
    height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    return sample_with_zeros(plane, min(max(y, 0), height - 1), min(max(x, 0), width - 1))
