"""Where frames are looked at: never sparser than a stated gap, denser where a person's scores move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from preprocessing_fakes import SquareDetector, square_frame, write_video

from unmasked.inspection.examine import SMALL_FACE_PX, examine
from unmasked.inspection.examiner import Examiner
from unmasked.inspection.file_facts import examiner_pool
from unmasked.inspection.looks import frames_between
from unmasked.inspection.maps import Drawn, draw_maps
from unmasked.inspection.records import read_case
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.video import FILLED_MAX, fill_gaps, read_frames


def light(images: torch.Tensor) -> torch.Tensor:
    """Logits of a detector that calls bright pictures fake."""
    mean = 12 * (images.mean(dim=(1, 2, 3)) - 0.73)
    return torch.stack([-mean, mean], dim=1)


@given(
    st.lists(st.integers(1, 400), min_size=1, max_size=40),
    st.floats(0.01, 40),
    st.floats(0.1, 60),
)
def test_no_gap_is_longer_than_stated_where_the_video_has_frames_in_it(steps, rate, gap_s):
    indices = [0, *np.cumsum(steps).tolist()]
    filled = fill_gaps(indices, [index / rate for index in indices], gap_s)
    assert set(indices) <= set(filled)
    assert filled == sorted(set(filled))
    if indices[-1] / rate / gap_s < FILLED_MAX:
        longest = max(gap_s, 1 / rate)
        assert np.diff(filled).max() / rate <= longest * (1 + 1e-6)


def test_a_header_that_announces_any_length_costs_a_bounded_number_of_frames():
    assert len(fill_gaps([0, 2**31], [0.0, 2**31 / 25], 10.0)) < FILLED_MAX + 5


def test_a_long_video_gets_more_frames_and_a_short_one_none(tmp_path):
    slow = write_video(tmp_path / "slow.mp4", 24, times=range(0, 24 * 25, 25))  # a frame a second
    given = {"wanted": 3, "max_pixels": 10**6}
    for gap_s, expected in ((0.0, [0, 11, 23]), (12.0, [0, 11, 23]), (6.0, [0, 5, 11, 17, 23])):
        found = list(read_frames(tmp_path, slow.name, "video", gap_s=gap_s, **given))
        assert [frame.index for frame in found] == expected
        assert not gap_s or np.diff([frame.time_s for frame in found]).max() <= gap_s


def test_frames_are_taken_where_scores_move_most_and_again_within():
    rows = pd.DataFrame({"face": 0, "frame": [0, 16, 32, 48], "score": [0.1, 0.1, 0.9, 0.6]})
    assert frames_between(rows, 1) == [24]
    assert frames_between(rows, 3) == [20, 24, 28]
    assert frames_between(rows, 4) == [20, 24, 28, 40]
    # Nowhere below the least move, nor between neighbours of which nothing lies.
    assert frames_between(rows.assign(score=0.3), 9) == []
    assert frames_between(rows.assign(frame=[0, 1, 2, 3]), 9) == []
    # Another processor's last digits choose no others.
    assert frames_between(rows.assign(score=rows["score"] + 1e-6), 4) == frames_between(rows, 4)


def test_frames_between_show_when_a_score_moves_and_change_no_verdict(tmp_path, monkeypatch):
    """A person turns bright in the middle of a video: looked at closer, at the same score."""
    from unmasked.evaluation.fitted import Fitted
    from unmasked.evaluation.thresholds import Threshold

    def draw(index):
        frame = square_frame(index, size_px=192)
        return frame if index >= 22 else (frame * 0.75).astype(np.uint8)

    clip = write_video(tmp_path / "clip.mp4", 41, draw=draw)
    weights = tmp_path / "detector.safetensors"
    weights.write_bytes(b"")
    weights.with_suffix(".json").write_text("{}")
    card = {"detector": "light", "architecture": "mean", "size_px": 64, "sha256": "0"}
    examiner = Examiner(
        light, card, weights, "", None, Fitted(Threshold(0.5, "eer")), [], None, {}, draw=draw_none
    )
    strict = replace(examiner, fitted=Fitted(Threshold(1e-3, "eer")))  # calls the person fake anyway
    config = PreprocessConfig(faces="all", frames_per_video=5, workers=1)
    pool = examiner_pool(config, SquareDetector)
    try:
        cases = [
            next(examine({clip: tmp_path / f"{n}"}, one, config, closer=closer, pool=pool))
            for n, (one, closer) in enumerate([(examiner, 0), (examiner, 4), (strict, 4)])
        ]
    finally:
        pool.stop()
    before, now, fake = cases
    assert fake.sampled.between == 0
    assert [look.frame for look in before.looks] == [0, 10, 20, 30, 40]
    more = [look.frame for look in now.looks if look.between]
    assert more, [(look.frame, look.score) for look in before.looks]
    assert set(more) <= set(range(21, 30))  # where the score moves
    assert (now.sampled.between, before.sampled.between) == (len(more), 0)
    assert now.finding.score == pytest.approx(before.finding.score, abs=1e-9)
    assert [one.frames for one in now.people] == [5]
    assert now.people[0].size_px > SMALL_FACE_PX
    said = (tmp_path / "1" / "case.html").read_text(encoding="utf-8")
    assert "more were looked at where scores move" in said
    assert set(read_case(tmp_path / "1").files) >= {look.crop for look in now.looks}
    # The maps of the most suspicious: in grey, and the reason beside them.
    top = sorted(now.looks, key=lambda look: -look.score)[:3]
    assert [one.crop for one in now.maps.shown] == [look.crop for look in top]
    assert {one.file for one in now.maps.shown} < set(now.files)
    assert "No map can be shown (Guess): it is made by chance." in said
    assert said.count("in grey: the maps fail their tests") == 2 * len(top)  # also for who cannot see


def draw_none(images, people):
    pictures = np.zeros((len(images), 64, 64, 3), np.uint8)
    return Drawn("Guess", pictures, [False] * len(images), ["it is made by chance"])


class Spot(torch.nn.Module):
    """Calls pictures fake whose upper left corner is bright; ``is_blind`` looks at nothing."""

    def __init__(self, *, is_blind: bool = False) -> None:
        super().__init__()
        weight = torch.zeros(1, 3, 32, 32)
        weight[..., :8, :8] = 0.0 if is_blind else 0.2
        self.weight = torch.nn.Parameter(weight)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = (images * self.weight).sum(dim=(1, 2, 3))
        return torch.stack([-found, found], dim=1)


def test_a_map_is_in_colours_only_where_it_passes_its_tests():
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images[..., :8, :8] = 0.8
    drawn = draw_maps(Spot(), images, [0, 0, 0])  # of one face, whose maps are alike by nature
    assert (drawn.method, drawn.failed) == ("Occlusion", [])
    corner, rest = (drawn.pictures[..., 0].astype(int)[:, part, part] for part in (slice(0, 8), slice(8, 32)))
    assert corner.mean() > rest.mean() + 50
    strangers = draw_maps(Spot(), images, [0, 1, 2])
    assert "the same map for every picture" in strangers.failed[0]
    for made in (
        strangers,
        draw_maps(Spot(is_blind=True), images, [0, 0, 0]),
        draw_maps(Spot(), images[:1], [0]),
    ):
        assert made.failed
        assert np.ptp(made.pictures, axis=-1).max() == 0  # grey
