"""What detectors compute, once more: in NumPy and float64, box by box as the papers tell it."""

import math

import numpy as np
from tiny_detectors import overlaps

from resnet_tasks.detection.yolo import BOX_WEIGHT, CLASS_WEIGHT, SIDE_WEIGHT  # a balance: no theory gives it


def flat(outputs: dict, name: str, numbers: int) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """`(batch, n, numbers)` and each row's `(level, y, x)`, by loops."""
    levels = sorted(int(key.removeprefix(f"{name}_P")) for key in outputs if key.startswith(f"{name}_P"))
    rows, places = [], []
    for level in levels:
        value = np.asarray(outputs[f"{name}_P{level}"], np.float64)
        for y in range(value.shape[1]):
            for x in range(value.shape[2]):
                for start in range(0, value.shape[3], numbers):
                    rows.append(value[:, y, x, start : start + numbers])
                    places.append((level, y, x))
    return np.stack(rows, axis=1), places


def anchor_boxes(places, sides, ratios=(0.5, 1.0, 2.0)) -> np.ndarray:
    """`(n, 4)`: at each place one box for each ratio (height over width), and each of `sides` (in strides)."""
    each, boxes = len(sides) * len(ratios), []
    for index, (level, y, x) in enumerate(places):
        ratio, side = ratios[index % each // len(sides)], sides[index % len(sides)] * 2**level
        w, h = side / math.sqrt(ratio), side * math.sqrt(ratio)
        cx, cy = (x + 0.5) * 2**level, (y + 0.5) * 2**level
        boxes.append([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    return np.array(boxes)


def matched(candidates, boxes, labels, foreground, background, every_box):
    """For one picture: index, positive and negative `(n,)`; paddings are left out before anything is computed."""
    real = np.flatnonzero(labels >= 0)
    count = len(candidates)
    if not len(real):
        return np.zeros(count, int), np.zeros(count, bool), np.ones(count, bool)
    table = np.stack([overlaps(candidates, boxes[place]) for place in real], axis=1)
    best, positive = table.max(axis=1), table.max(axis=1) >= foreground
    for column in table.T if every_box else ():
        if column.max() > 0:
            positive = positive | (column >= column.max() * (1 - 1e-6))
    return real[table.argmax(axis=1)], positive, (best < background) & ~positive


def offsets_of(anchor, box, scale=(1, 1, 1, 1)) -> np.ndarray:
    (aw, ah), (bw, bh) = ((b[2] - b[0], b[3] - b[1]) for b in (anchor, box))
    shift = [(box[0] + box[2] - anchor[0] - anchor[2]) / 2 / aw, (box[1] + box[3] - anchor[1] - anchor[3]) / 2 / ah]
    return np.array([*shift, math.log(bw / aw), math.log(bh / ah)]) * scale


def moved(anchor, offsets, scale=(1, 1, 1, 1)) -> np.ndarray:
    """The box that offsets mean."""
    dx, dy, dw, dh = np.asarray(offsets) / scale
    w, h = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = (anchor[0] + anchor[2]) / 2 + dx * w, (anchor[1] + anchor[3]) / 2 + dy * h
    w, h = w * min(math.exp(dw), 62.5), h * min(math.exp(dh), 62.5)
    return np.array([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def smooth(differences, beta) -> float:
    size = np.abs(differences)
    return float(np.where(size < beta, size**2 / (2 * beta), size - beta / 2).sum())


def sigmoid(logits):
    return 1 / (1 + np.exp(-np.asarray(logits, np.float64)))


def entropy(logits, share) -> np.ndarray:
    p = sigmoid(logits)
    return -(share * np.log(p) + (1 - share) * np.log(1 - p))


def retinanet_terms(outputs, targets, classes: int, anchor_size: float, giou=None) -> dict:
    """Lin et al. 2017; `giou(a, b)` of two boxes where it is the loss of boxes."""
    logits, _ = flat(outputs, "class", classes)
    offsets, places = flat(outputs, "box", 4)
    anchors = anchor_boxes(places, [anchor_size * 2 ** (octave / 3) for octave in range(3)])
    totals, normaliser = {"class": 0.0, "box": 0.0}, 0.0
    for row, weight in enumerate(targets["weight"]):
        boxes, labels = np.float64(targets["boxes"][row]), targets["labels"][row]
        index, positive, negative = matched(anchors, boxes, labels, 0.5, 0.4, True)
        share = np.zeros((len(anchors), classes))
        for place in np.flatnonzero(positive):
            share[place, labels[index[place]]] = 1
            if giou is None:
                wanted = offsets_of(anchors[place], boxes[index[place]])
                totals["box"] += weight * smooth(offsets[row, place] - wanted, 0.11)
            else:
                predicted = moved(anchors[place], offsets[row, place])
                totals["box"] += weight * 2 * (1 - giou(predicted, boxes[index[place]]))
        p = sigmoid(logits[row])
        focal = np.where(share == 1, -0.25 * (1 - p) ** 2 * np.log(p), -0.75 * p**2 * np.log(1 - p))
        totals["class"] += weight * focal[positive | negative].sum()
        normaliser += weight * max(positive.sum(), 1)
    return {name: (total, normaliser) for name, total in totals.items()}


def aligned(scores, predicted, points, reach, boxes, labels, most=10, score_power=0.5, overlap_power=6.0):
    """Feng et al. 2021, section 3.2, for one picture: the box `(n,)` of each point, -1 for none, and its share."""
    count = len(points)
    asking = []  # of each box: {point: (fit, overlap)} of the `most` that fit best
    for box, label in zip(boxes, labels):
        fits = {}
        for place, (x, y) in enumerate(points):
            half = [max((box[2] - box[0]) / 2, reach[place]), max((box[3] - box[1]) / 2, reach[place])]
            inside = abs(x - (box[0] + box[2]) / 2) < half[0] and abs(y - (box[1] + box[3]) / 2) < half[1]
            overlap = overlaps(predicted[place][None], box)[0] if label >= 0 and inside else 0.0
            if overlap > 0:
                fits[place] = (scores[place, label] ** score_power * overlap**overlap_power, overlap)
        asking.append(dict(sorted(fits.items(), key=lambda pair: -pair[1][0])[:most]))
    own = np.full(count, -1)
    for place in range(count):
        wanted = [(fits[place][1], -number) for number, fits in enumerate(asking) if place in fits]
        own[place] = -max(wanted)[1] if wanted else -1
    share = np.zeros(count)
    for number, fits in enumerate(asking):
        kept = {place: fit for place, fit in fits.items() if own[place] == number}
        best, largest = (max((fit[part] for fit in kept.values()), default=0) for part in (0, 1))
        for place, (fit, _) in kept.items():
            share[place] = fit / best * largest
    return own, share


def ciou(a, b) -> float:
    """Zheng et al. 2019, section 3.3."""
    overlap = overlaps(np.array([a]), b)[0]
    apart = ((a[0] + a[2] - b[0] - b[2]) / 2) ** 2 + ((a[1] + a[3] - b[1] - b[3]) / 2) ** 2
    around = (max(a[2], b[2]) - min(a[0], b[0])) ** 2 + (max(a[3], b[3]) - min(a[1], b[1])) ** 2
    shapes = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
    v = 4 / math.pi**2 * (shapes[0] - shapes[1]) ** 2
    return overlap - apart / around - (v**2 / (1 - overlap + v) if v else 0.0)


def giou(a, b) -> float:
    """Rezatofighi et al. 2019, algorithm 1."""
    overlap = overlaps(np.array([a]), b)[0]
    sizes = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    union = sizes / (1 + overlap)
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return overlap - (around - union) / around


def yolo_terms(outputs, targets, classes: int) -> dict:
    """Task-aligned assignment, cross-entropy with its shares, complete IoU, distribution focal loss."""
    logits, _ = flat(outputs, "class", classes)
    sides, places = flat(outputs, "box", 64)
    stride = np.array([2.0**level for level, _, _ in places])
    points = np.array([[(x + 0.5) * 2**level, (y + 0.5) * 2**level] for level, y, x in places])
    chances = np.exp(sides.reshape(*sides.shape[:2], 4, 16))
    chances /= chances.sum(axis=-1, keepdims=True)
    distances = (chances * np.arange(16)).sum(axis=-1) * stride[:, None]
    totals, normaliser = {"class": 0.0, "box": 0.0, "side": 0.0}, 0.0
    for row, weight in enumerate(targets["weight"]):
        boxes, labels = np.float64(targets["boxes"][row]), targets["labels"][row]
        predicted = np.concatenate([points - distances[row, :, :2], points + distances[row, :, 2:]], axis=1)
        own, share = aligned(sigmoid(logits[row]), predicted, points, stride, boxes, labels)
        wanted = np.zeros((len(points), classes))
        for place in np.flatnonzero(share > 0):
            box = boxes[own[place]]
            wanted[place, labels[own[place]]] = share[place]
            totals["box"] += BOX_WEIGHT * weight * share[place] * (1 - ciou(predicted[place], box))
            (x, y), entropies = points[place], 0.0
            for side, distance in enumerate([x - box[0], y - box[1], box[2] - x, box[3] - y]):
                value = min(max(distance / stride[place], 0), 14.99)
                low = int(value)
                logs = np.log(chances[row, place, side])
                entropies -= (low + 1 - value) * logs[low] + (value - low) * logs[low + 1]
            totals["side"] += SIDE_WEIGHT * weight * share[place] * entropies / 4
        totals["class"] += CLASS_WEIGHT * weight * entropy(logits[row], wanted).sum()
        normaliser += weight * max(share.sum(), 1)
    return {name: (total, normaliser) for name, total in totals.items()}


def lots(key, count: int, salt: int) -> np.ndarray:
    """One picture's, in Python's whole numbers: lowbias32 over the place, the salt, and the words of the key."""

    def scrambled(word: int) -> int:
        word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
        word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
        return word ^ (word >> 16)

    found = []
    for place in range(count):
        state = scrambled((place + 0x9E3779B9 * (salt + 1)) % 2**32)
        for word in key:
            state = scrambled(state ^ (int(word) % 2**32))
        found.append((state >> 8) / 2**24)
    return np.array(found)


def drawn(positive, negative, lot, total: int, share: float):
    """One picture's chosen places, positive and negative, as sorted lists."""
    first = sorted(np.flatnonzero(positive), key=lambda place: lot[place])[: round(total * share)]
    rest = sorted(np.flatnonzero(negative), key=lambda place: lot[place])[: total - len(first)]
    return sorted(first), sorted(rest)


def greedy(boxes, threshold: float) -> list[int]:
    """Non-maximum suppression of boxes, best first."""
    kept = []
    for place, box in enumerate(boxes):
        if not kept or overlaps(boxes[kept], box).max() <= threshold:
            kept.append(place)
    return kept


def proposed(outputs, row: int, anchor_size: float, canvas, before: int, proposals: int) -> np.ndarray:
    """Ren et al. 2015: the boxes of one picture that the second stage looks at, best first."""
    logits, places = flat(outputs, "objectness", 1)
    offsets, _ = flat(outputs, "offsets", 4)
    anchors, found = anchor_boxes(places, [anchor_size]), []
    for level in sorted({level for level, _, _ in places}):
        here = [place for place in range(len(places)) if places[place][0] == level]
        best = sorted(here, key=lambda place: -logits[row, place, 0])[:before]
        boxes = np.array([moved(anchors[place], offsets[row, place]) for place in best])
        boxes = np.clip(boxes, 0, [canvas[1], canvas[0], canvas[1], canvas[0]])
        large = [number for number, box in enumerate(boxes) if min(box[2] - box[0], box[3] - box[1]) >= 1]
        kept = greedy(boxes[large], 0.7)
        found += [(logits[row, best[large[number]], 0], boxes[large[number]]) for number in kept]
    return np.array([box for _, box in sorted(found, key=lambda pair: -pair[0])[:proposals]])


def faster_rcnn_terms(outputs, targets, classes: int, anchor_size, canvas, counts, second) -> dict:
    """Both stages; `second(row, boxes)` gives the second stage's logits and offsets of one picture's regions."""
    logits, places = flat(outputs, "objectness", 1)
    offsets, _ = flat(outputs, "offsets", 4)
    anchors = anchor_boxes(places, [anchor_size])
    totals, sums = dict.fromkeys(("objectness", "offsets", "class", "box"), 0.0), [0.0, 0.0]
    for row, weight in enumerate(targets["weight"]):
        boxes, labels, key = np.float64(targets["boxes"][row]), targets["labels"][row], targets["key"][row]
        index, positive, negative = matched(anchors, boxes, labels, 0.7, 0.3, True)
        chosen, rest = drawn(positive, negative, lots(key, len(anchors), 1), counts["drawn"], 0.5)
        totals["objectness"] += weight * entropy(logits[row, chosen, 0], 1).sum()
        totals["objectness"] += weight * entropy(logits[row, rest, 0], 0).sum()
        for place in chosen:
            wanted = offsets_of(anchors[place], boxes[index[place]])
            totals["offsets"] += weight * smooth(offsets[row, place] - wanted, 1 / 9)
        sums[0] += weight * (len(chosen) + len(rest))

        found = proposed(outputs, row, anchor_size, canvas, counts["before"], counts["proposals"])
        # The lots go by place: the proposals' room is as long as the most there can be, the truth stands behind it.
        room = min(counts["proposals"], sum(min(counts["before"], n) for n in _level_sizes(places)))
        own_places = [*range(len(found)), *(room + place for place in np.flatnonzero(labels >= 0))]
        regions = np.concatenate([found, boxes[labels >= 0]])
        index, positive, negative = matched(regions, boxes, labels, 0.5, 0.5, False)
        lot = lots(key, room + len(labels), 2)[own_places]
        chosen, rest = drawn(positive, negative, lot, counts["regions"], 0.25)
        class_logits, class_offsets = (np.float64(value) for value in second(row, regions))
        logs = class_logits - np.log(np.exp(class_logits).sum(axis=-1, keepdims=True))
        for place in chosen:
            label = labels[index[place]] + 1
            totals["class"] -= weight * logs[place, label]
            wanted = offsets_of(regions[place], boxes[index[place]], (10, 10, 5, 5))
            totals["box"] += weight * smooth(class_offsets[place, label] - wanted, 1 / 9)
        totals["class"] -= weight * logs[rest, 0].sum()
        sums[1] += weight * (len(chosen) + len(rest))
    return {name: (total, sums[name in ("class", "box")]) for name, total in totals.items()}


def _level_sizes(places) -> list[int]:
    levels = [level for level, _, _ in places]
    return [levels.count(level) for level in sorted(set(levels))]
