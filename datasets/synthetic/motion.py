"""How a head moves: a talking mouth, blinks, glances, brows and a slowly turning head."""

from __future__ import annotations

import numpy as np

# The 52 facial actions in the order of the head model (`Head.action_names`), then the pose.
ACTIONS = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff",
    "cheekSquintLeft", "cheekSquintRight", "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft",
    "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight", "eyeLookOutLeft", "eyeLookOutRight",
    "eyeLookUpLeft", "eyeLookUpRight", "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimpleLeft", "mouthDimpleRight",
    "mouthFrownLeft", "mouthFrownRight", "mouthFunnel", "mouthLeft", "mouthLowerDownLeft",
    "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker", "mouthRight",
    "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper", "mouthSmileLeft",
    "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight", "mouthUpperUpLeft", "mouthUpperUpRight",
    "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
POSE = ("yaw", "pitch", "roll", "shift_x", "shift_y", "zoom")
FRAME_RATE = 25.0


def expression_track(frames: int, seed: int) -> np.ndarray:
    """(T, 58) float32: the 52 ACTIONS, each in [0, 1], then POSE; the same for the same seed.

    Pose: yaw (positive turns to the viewer's right), pitch (positive looks up) and roll in radians, shift
    as a share of the frame's width, zoom as a relative change of size. It says nothing about who moves, so
    one person's track can be given to another.
    """
    rng = np.random.default_rng([seed, 58])
    track = {name: np.zeros(frames) for name in ACTIONS + POSE}

    _talk(track, rng)
    _look(track, rng)
    spread = {"yaw": (0.13, 0.06), "pitch": (0.05, 0.035), "roll": (0.045, 0.025)}
    spread |= {"shift_x": (0.015, 0.008), "shift_y": (0.012, 0.006), "zoom": (0.03, 0.01)}
    for name, (between, within) in spread.items():
        rest = np.clip(rng.normal(0, between), -1.6 * between, 1.6 * between)
        track[name] = rest + within * _wander(frames, 0.8, rng)
    return np.stack([track[name] for name in ACTIONS + POSE], axis=1).astype(np.float32)


def _talk(track: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Syllables of about a sixth of a second in phrases, wide and round vowels, a mood."""
    frames = len(track["yaw"])
    syllables = np.abs(_wander(frames, 0.17, rng)) * np.clip(0.75 + _wander(frames, 0.6, rng), 0.1, 1.2)
    track["jawOpen"] = np.clip(0.4 * syllables - 0.05, 0, 0.42)
    wide, round_ = _wander(frames, 0.3, rng), _wander(frames, 0.3, rng)
    _set_both_sides(track, "mouthStretch", np.clip(0.35 * wide, 0, 0.5))
    track["mouthFunnel"] = np.clip(0.35 * round_, 0, 0.5)
    track["mouthPucker"] = np.clip(-0.35 * round_ - 0.1, 0, 0.5)
    _set_both_sides(track, "mouthUpperUp", np.clip(0.3 * syllables * (0.5 + 0.5 * wide), 0, 0.4))
    _set_both_sides(track, "mouthLowerDown", np.clip(0.35 * syllables, 0, 0.5))
    _set_both_sides(track, "mouthPress", np.clip(0.3 - 0.9 * syllables, 0, 0.2))
    mood = rng.normal(0.12, 0.18) + 0.08 * _wander(frames, 1.2, rng)
    _set_both_sides(track, "mouthSmile", np.clip(mood, 0, 0.6))
    _set_both_sides(track, "cheekSquint", np.clip(0.5 * mood, 0, 0.3))
    _set_both_sides(track, "mouthFrown", np.clip(-0.6 * mood, 0, 0.3))
    _set_both_sides(track, "eyeSquint", np.clip(0.4 * mood, 0, 0.25))


def _look(track: dict[str, np.ndarray], rng: np.random.Generator) -> None:
    """Brows, blinks and glances, both eyes to the same place."""
    frames = len(track["yaw"])
    brows = rng.normal(0, 0.15) + 0.2 * _wander(frames, 0.5, rng)
    track["browInnerUp"] = np.clip(brows, 0, 0.6)
    _set_both_sides(track, "browOuterUp", np.clip(0.8 * brows, 0, 0.5))
    _set_both_sides(track, "browDown", np.clip(-0.8 * brows, 0, 0.5))
    _set_both_sides(track, "eyeBlink", _blinks(frames, rng))
    look_x, look_y = 0.22 * _wander(frames, 0.6, rng), 0.15 * _wander(frames, 0.6, rng)
    track["eyeLookInLeft"] = track["eyeLookOutRight"] = np.clip(look_x, 0, 1)
    track["eyeLookInRight"] = track["eyeLookOutLeft"] = np.clip(-look_x, 0, 1)
    _set_both_sides(track, "eyeLookUp", np.clip(look_y, 0, 1))
    _set_both_sides(track, "eyeLookDown", np.clip(-look_y, 0, 1))


def _set_both_sides(track: dict[str, np.ndarray], stem: str, values: np.ndarray) -> None:
    for side in ("Left", "Right"):
        track[stem + side] = values


def _wander(frames: int, period_s: float, rng: np.random.Generator) -> np.ndarray:
    """(T,) smooth random values, about [-1.5, 1.5], that turn every `period_s` seconds or so."""
    step = period_s * FRAME_RATE
    knots = rng.normal(0, 0.7, int(frames / step) + 4)
    time = np.arange(frames) / step + rng.uniform(0, 1)
    left = time.astype(int)
    share = time - left
    share = share * share * (3 - 2 * share)
    return (1 - share) * knots[left] + share * knots[left + 1]


def _blinks(frames: int, rng: np.random.Generator) -> np.ndarray:
    """(T,) closing of the eyes; a blink every two or three seconds lasts about six frames."""
    time = np.arange(frames)
    closed = np.zeros(frames)
    at = rng.uniform(-10, 50)
    while at < frames:
        closed = np.maximum(closed, np.clip(1.35 - np.abs(time - at) / 2.2, 0, 1))
        at += rng.uniform(40, 80)
    return closed
