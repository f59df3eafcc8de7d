"""The 68 iBUG face points as vertices of the head mesh."""

from __future__ import annotations

# Found once: dlib's 68 points on a frontal render of the average head, each replaced by the nearest visible
# skin vertex (eyes: on the rim of the lids; inner lips: on the rim of the mouth), the subject's right half
# (viewer's left) mirrored.
VERTICES = (
    1341, 1541, 1531, 1561, 735, 1582, 1650, 1576, 1651, 3635, 3705, 3640,
    2825, 3621, 3592, 3602, 3409, 255, 232, 222, 223, 228, 2371, 2367,
    2366, 2375, 2394, 132, 135, 164, 294, 344, 313, 317, 2446, 2475,
    1026, 1018, 1036, 1041, 1033, 1031, 3109, 3104, 3086, 3094, 3099, 3101,
    444, 1707, 460, 466, 2589, 3758, 2574, 2605, 2611, 492, 486, 480,
    536, 539, 537, 2653, 2651, 2649, 540, 534,
)  # fmt: skip
