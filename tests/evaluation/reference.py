"""The metrics written out pixel by pixel in float64, to hold the package's against."""


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
