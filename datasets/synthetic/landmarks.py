"""The 68 iBUG face points as vertices of the head mesh."""

from __future__ import annotations

# Found once with dlib's 68-point predictor on 45 renders of 24 people. Outline, brows and nose: of each pair
# of mirrored skin vertices the one whose projection is nearest to dlib's points on average. Eyes and inner
# lips: the nearest vertices on the rims of the lids and the mouth, in a frontal render of the average head.
VERTICES = (
    2097, 1823, 1453, 856, 841, 1653, 1650, 1576, 1651, 3635, 3705, 3707,
    2919, 2934, 3517, 3871, 4143, 262, 232, 222, 223, 228, 2371, 2367,
    2366, 2375, 2401, 136, 131, 164, 294, 320, 313, 317, 2446, 2452,
    1026, 1018, 1036, 1041, 1033, 1031, 3109, 3104, 3086, 3094, 3099, 3101,
    444, 1707, 460, 466, 2589, 3758, 2574, 2605, 2611, 492, 486, 480,
    536, 539, 537, 2653, 2651, 2649, 540, 534,
)  # fmt: skip
