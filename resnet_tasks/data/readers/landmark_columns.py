"""The order of ten columns of landmarks, by the names in a header.

Read are x and y of one point after the other, `x1,y1,x2,y2,...`; all x before all y, as MTCNN gives them,
`x1,...,x5,y1,...,y5`; numbers from 0 or 1 on, in the order of the points; and names in any order, such as
`left_eye_x`, `x_mouth_left` or `nose_y`.
"""

import re
from collections.abc import Sequence

from resnet_tasks.errors import DataError

POINTS = 5
_SIDES = {"left": 0, "right": 1, "l": 0, "r": 1}
_TURNS = [(point, axis) for point in range(POINTS) for axis in "xy"]  # x and y of one point after the other
_ALL_X_FIRST = [(point, axis) for axis in "xy" for point in range(POINTS)]


def order(names: Sequence[str], file: str) -> list[int]:
    """Returns the place of each of the ten numbers among the columns: x and y of the first point, of the second, ...

    Args:
        names: Of the columns behind that of the files.
        file: For messages.

    Raises:
        DataError: They do not say the order.
    """
    read = [column for column in map(_read, names) if column is not None]
    points, axes = [point for point, _ in read if point is not None], [axis for _, axis in read]
    found = None
    if len(read) == len(names) == 2 * POINTS:
        if not points:  # nothing but x and y
            found = next((plan for plan in (_TURNS, _ALL_X_FIRST) if [axis for _, axis in plan] == axes), None)
        elif len(points) == len(read):
            found = [(point - min(points), axis) for point, axis in zip(points, axes)]
    if found is None or sorted(found) != _TURNS:
        raise DataError(
            f"{file}: the header names the columns {', '.join(names)[:160]!r}, which do not say the order of ten "
            "numbers; expected x1,y1,x2,y2,...,y5 or x1,...,x5,y1,...,y5 (left eye, right eye, nose, left and right "
            "corner of the mouth, as the viewer sees left and right), or names such as left_eye_x, nose_y, "
            "mouth_right_x; put the header right, or leave it out, and x and y take turns"
        )
    return [found.index(wanted) for wanted in _TURNS]


def _read(name: str) -> tuple[int | None, str] | None:
    """Returns the point and the axis of a column; the point is None where x or y is all that the name says."""
    words = re.findall(r"[a-z]+|[0-9]+", re.sub(r"(eye|nose|mouth|left|right|lip|corner|tip)", r" \1 ", name.lower()))
    axes = [word for word in words if word in ("x", "y")]
    if len(axes) != 1:
        return None
    sides = [_SIDES[word] for word in words if word in _SIDES]
    numbers = [int(word) for word in words if word.isdecimal()]
    if "nose" in words:
        return 2, axes[0]
    if "eye" in words or {"mouth", "lip", "corner"} & set(words):
        return (sides[0] + (0 if "eye" in words else 3), axes[0]) if len(sides) == 1 else None
    if len(numbers) == 1 and not sides:
        return numbers[0], axes[0]
    return (None, axes[0]) if len(words) == 1 else None
