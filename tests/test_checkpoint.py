"""Detectors as files: what is written, what is read, what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unmasked.datasets.errors import InputError
from unmasked.datasets.files import sha256_of_file
from unmasked.ucf.checkpoint import load, save, update_card
from unmasked.ucf.model import UCF
from unmasked.ucf.published import read_published

CARD = {"method_classes": ["real", "Deepfakes", "FaceSwap"], "size_px": 64, "selection": {"video_auc": 0.9}}
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return UCF(width=0.125, method_classes=3).eval()


@pytest.fixture
def stored(model, tmp_path):
    return save(model, tmp_path, CARD)


def test_a_loaded_detector_gives_the_same_logits(model, stored):
    loaded, _ = load(stored)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), model(IMAGES))


def test_a_loaded_detector_can_be_trained_on(stored):
    loaded, _ = load(stored)
    loaded(IMAGES).sum().backward()
    assert loaded.encoder_f.conv1.weight.grad is not None


def test_the_card_says_what_the_weights_are(stored):
    _, card = load(stored)
    assert card == json.loads(stored.with_suffix(".json").read_text())
    assert card["sha256"] == sha256_of_file(stored)
    assert (card["detector"], card["architecture"], card["width"]) == ("UCF", "ucf", 0.125)
    assert card["method_classes"] == CARD["method_classes"]
    assert card["selection"] == {"video_auc": 0.9}
    assert card["preprocessing"]["mean"] == card["preprocessing"]["std"] == [0.5] * 3
    assert card["preprocessing"]["size_px"] == card["size_px"] == 64
    assert "MIT" in card["licence"]


@pytest.mark.parametrize("name", ["", "detector.safetensors", "detector.json"])
def test_a_detector_is_found_by_its_folder_or_either_file(stored, name):
    assert load(stored.parent / name)[1]["width"] == 0.125


def test_thresholds_are_filled_in_later(stored):
    update_card(stored, thresholds={"eer": 0.4})
    assert load(stored)[1]["thresholds"] == {"eer": 0.4}


def test_files_that_were_half_written_leave_the_old_ones(model, stored, monkeypatch):
    before = {path: path.read_bytes() for path in stored.parent.iterdir()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmasked.ucf.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save(model, stored.parent, CARD)
    assert {path: path.read_bytes() for path in stored.parent.iterdir()} == before


def test_an_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"detector\.safetensors does not exist"):
        load(tmp_path)


def test_a_checkpoint_without_its_card_is_refused(stored):
    stored.with_suffix(".json").unlink()
    with pytest.raises(InputError, match=r"no card detector\.json"):
        load(stored)


@pytest.mark.parametrize("text", ["{", "[]", '{"architecture": "ucf"}'])
def test_a_damaged_card_is_refused(stored, text):
    stored.with_suffix(".json").write_text(text)
    with pytest.raises(InputError, match=r"card .*detector\.json"):
        load(stored)


@pytest.mark.parametrize("content", [b"", b"something else", b"\x10\0\0\0\0\0\0\0{}"])
def test_what_is_not_safetensors_is_refused(stored, content):
    stored.write_bytes(content)
    with pytest.raises(InputError, match="not an intact safetensors file"):
        load(stored)


def test_a_truncated_checkpoint_is_refused(stored):
    stored.write_bytes(stored.read_bytes()[:-100])
    with pytest.raises(InputError, match="not an intact safetensors file"):
        load(stored)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_is_refused_without_running_it(stored, tmp_path, write):
    write({"weights": Payload(tmp_path / "ran")}, stored)
    with pytest.raises(InputError, match="is a pickle"):
        load(stored)
    assert not (tmp_path / "ran").exists()


def test_another_architecture_is_refused_by_name(stored):
    update_card(stored, architecture="efficientnet")
    with pytest.raises(InputError, match="architecture 'efficientnet'"):
        load(stored)


def test_foreign_weights_are_refused_with_the_names_that_do_not_fit(stored):
    weights = load_file(stored)
    weights["backbone.conv1.weight"] = weights.pop("encoder_f.conv1.weight")
    save_file(weights, stored)
    with pytest.raises(
        InputError, match=r"1 of 600 weights are absent \(encoder_f\.conv1\.weight\).*1 are not"
    ):
        load(stored)


def test_another_width_is_refused_with_both_shapes(stored):
    update_card(stored, width=0.25)
    with pytest.raises(InputError, match=r"encoder_f\.bn2\.weight is \(8,\), not \(16,\)"):
        load(stored)


def test_weights_and_card_of_different_trainings_are_refused(model, stored):
    torch.nn.init.ones_(model.encoder_f.conv1.weight)
    save_file(model.state_dict(), stored)
    with pytest.raises(InputError, match="SHA-256"):
        load(stored)


# Published weights: full width, a flat state dict in a .pth file


@pytest.fixture(scope="module")
def full_size():
    torch.manual_seed(1)
    return UCF(method_classes=5).eval()


@pytest.mark.slow
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
        lambda state: {"model": state},
    ],
    ids=["flat", "state_dict and module.", "model"],
)
def test_published_weights_are_read_flat_or_wrapped(full_size, tmp_path, wrapped):
    torch.save(wrapped(full_size.state_dict()), tmp_path / "ucf.pth")
    read = read_published(tmp_path / "ucf.pth")
    assert not read.training
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in full_size.state_dict().items())


def test_published_weights_with_code_inside_are_refused_without_running_it(tmp_path):
    torch.save({"state_dict": Payload(tmp_path / "ran")}, tmp_path / "ucf.pth")
    with pytest.raises(InputError, match="refused without running it"):
        read_published(tmp_path / "ucf.pth")
    assert not (tmp_path / "ran").exists()


def test_published_weights_of_another_network_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="600 of 600 weights are absent"):
        read_published(tmp_path / "other.pth")


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(InputError, match="no state dict"):
        read_published(tmp_path / "other.pth")
