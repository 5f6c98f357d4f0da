"""The metrics written out pixel by pixel in float64, to hold the package's against."""

import math


def loop_scores(saliency, truth):
    """MAE, IoU and accuracy of the map as it is; adaptive F and the F curve of the stretched one."""
    height, width = len(truth), len(truth[0])
    cells = [(row, column) for row in range(height) for column in range(width)]
    values = [float(saliency[row][column]) for row, column in cells]
    wanted = [bool(truth[row][column]) for row, column in cells]
    low, high = min(values), max(values)
    stretched = [(value - low) / (high - low) if high > low else value for value in values]
    marked = [value >= 0.5 for value in values]
    union = sum(one or other for one, other in zip(marked, wanted, strict=True))
    both = sum(one and other for one, other in zip(marked, wanted, strict=True))
    levels = [int(value * 255) for value in stretched]
    precision, recall, f = [], [], []
    for threshold in range(256):
        p, r, score = _f([level >= threshold for level in levels], wanted)
        precision.append(p)
        recall.append(r)
        f.append(score)
    adaptive = min(2 * sum(stretched) / len(stretched), 1.0)
    return {
        "mae": sum(abs(value - want) for value, want in zip(values, wanted, strict=True)) / len(values),
        "iou": both / union if union else 1.0,
        "accuracy": sum(one == other for one, other in zip(marked, wanted, strict=True)) / len(values),
        "adaptive_f": _f([value >= adaptive for value in stretched], wanted)[2],
        "precision": precision,
        "recall": recall,
        "f": f,
    }


def _f(marked, wanted):
    hits = sum(one and other for one, other in zip(marked, wanted, strict=True))
    precision = hits / sum(marked) if any(marked) else 0.0
    recall = hits / sum(wanted) if any(wanted) else 0.0
    bottom = 0.3 * precision + recall
    return precision, recall, 1.3 * precision * recall / bottom if bottom else 0.0


def structure_scores(saliency, truth):
    """S, E and weighted F of the stretched map by the formulas of their papers, for a mask that is a rectangle."""
    low, high = min(map(min, saliency)), max(map(max, saliency))
    stretched = [[(value - low) / (high - low) if high > low else value for value in row] for row in saliency]
    return {
        "s_measure": _s_measure(stretched, truth),
        "e_measure": _e_measure(stretched, truth),
        "weighted_f": _weighted_f(stretched, truth),
    }


def _cells(truth):
    return [(row, column) for row in range(len(truth)) for column in range(len(truth[0]))]


def _s_measure(saliency, truth):
    """S = 0.5 S_object + 0.5 S_region (Fan et al. 2017, lambda = 0.5)."""
    cells = _cells(truth)
    inside = [saliency[row][column] for row, column in cells if truth[row][column]]
    outside = [1 - saliency[row][column] for row, column in cells if not truth[row][column]]
    area = len(inside) / len(cells)
    s_object = area * _similarity(inside) + (1 - area) * _similarity(outside)
    # The mask is cut below and right of its centroid.
    middle = [round(sum(cell[axis] for cell in cells if truth[cell[0]][cell[1]]) / len(inside)) for axis in (0, 1)]
    s_region = 0.0
    for below in (False, True):
        for right in (False, True):
            part = [cell for cell in cells if (cell[0] > middle[0]) == below and (cell[1] > middle[1]) == right]
            pairs = [(saliency[row][column], float(truth[row][column])) for row, column in part]
            s_region += len(part) / len(cells) * _ssim(pairs) if part else 0.0
    return max(0.0, 0.5 * s_object + 0.5 * s_region)


def _similarity(values):
    """2 mean / (mean^2 + 1 + 2 lambda deviation)."""
    mean = sum(values) / len(values)
    deviation = math.sqrt(_covariance(values, values)) if len(values) > 1 else 0.0
    return 2 * mean / (mean**2 + 1 + 2 * 0.5 * deviation)


def _ssim(pairs):
    """2 x y / (x^2 + y^2) * 2 s_xy / (s_x^2 + s_y^2); 1 where both maps are flat, 0 where one of them is."""
    xs, ys = zip(*pairs, strict=True)
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    above = 4 * x * y * _covariance(xs, ys)
    below = (x**2 + y**2) * (_covariance(xs, xs) + _covariance(ys, ys))
    return above / below if above else 1.0 if below == 0 else 0.0


def _covariance(one, other):
    if len(one) == 1:
        return 0.0
    x, y = sum(one) / len(one), sum(other) / len(other)
    return sum((a - x) * (b - y) for a, b in zip(one, other, strict=True)) / (len(one) - 1)


def _e_measure(saliency, truth):
    """The mean over 256 thresholds of the mean of (1 + xi)^2 / 4, where xi aligns the two maps less their means (Fan
    et al. 2018); the mean over pixels divides by their number less 1, as the authors' code does."""
    cells = _cells(truth)
    wanted = [bool(truth[row][column]) for row, column in cells]
    levels = [int(saliency[row][column] * 255) for row, column in cells]
    total = 0.0
    for threshold in range(256):
        marked = [level >= threshold for level in levels]
        mean_marked, mean_wanted = sum(marked) / len(cells), sum(wanted) / len(cells)
        aligned = 0.0
        for one, other in zip(marked, wanted, strict=True):
            a, b = one - mean_marked, other - mean_wanted
            aligned += (1 + 2 * a * b / (a * a + b * b)) ** 2 / 4
        total += aligned / (len(cells) - 1)
    return total / 256


def _weighted_f(saliency, truth):
    """Margolin et al. 2014, beta = 1: errors inside are blurred with those of their neighbours, errors outside count
    as the nearest pixel's there and, by themselves, more the farther they are."""
    height, width = len(truth), len(truth[0])
    cells = _cells(truth)
    inside = [cell for cell in cells if truth[cell[0]][cell[1]]]
    top, bottom = inside[0][0], inside[-1][0]
    left, right = min(column for _, column in inside), max(column for _, column in inside)
    nearest = {(row, column): (min(max(row, top), bottom), min(max(column, left), right)) for row, column in cells}
    error = {(row, column): abs(saliency[row][column] - truth[row][column]) for row, column in cells}
    steps = [(down, across) for down in range(-3, 4) for across in range(-3, 4)]
    weights = [math.exp(-(down**2 + across**2) / (2 * 5**2)) for down, across in steps]
    missed = false = 0.0
    for row, column in cells:
        if truth[row][column]:
            places = [(row + down, column + across) for down, across in steps]
            blurred = sum(
                weight * error[nearest[place]]
                for weight, place in zip(weights, places, strict=True)
                if 0 <= place[0] < height and 0 <= place[1] < width
            )
            missed += min(error[row, column], blurred / sum(weights))
        else:
            distance = math.dist((row, column), nearest[row, column])
            false += error[row, column] * (2 - math.exp(math.log(1 - 0.5) / 5 * distance))
    hits = len(inside) - missed
    precision, recall = hits / (hits + false), hits / len(inside)
    return 2 * precision * recall / (precision + recall)
