"""Detectors as files: what is written, what is read, what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner
from ucf_fakes import load, save

from unmasked.app.cli import app
from unmasked.datasets.documents import write_json
from unmasked.datasets.errors import InputError
from unmasked.datasets.files import sha256_of_file
from unmasked.training.checkpoint import misfits, read_card, read_state_dict, write_state_dict
from unmasked.ucf.model import UCF
from unmasked.ucf.published import class_names, read_published

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


def update_card(path, **changes):
    write_json(path.with_suffix(".json"), read_card(path) | changes)


def test_files_that_were_half_written_leave_the_old_ones(model, stored, monkeypatch):
    before = {path: path.read_bytes() for path in stored.parent.iterdir()}

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("unmasked.training.checkpoint.save_file", full_disk)
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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no checkpoint: it is empty"),
        (b"something else", "no checkpoint: it is text"),
        (b"\x10\0\0\0\0\0\0\0{}", "not an intact safetensors file"),
    ],
)
def test_what_is_not_safetensors_is_refused(stored, content, said):
    stored.write_bytes(content)
    with pytest.raises(InputError, match=said):
        load(stored)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a", "a Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page.*Download it again"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"video,label,score\na,1,0.5\n", "text"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
    ],
)
def test_another_kind_of_file_is_called_what_it_is_and_no_pickle(tmp_path, content, said):
    """A pointer of Git LFS and a web page were "a pickle that holds more than tensors"."""
    file = tmp_path / "ucf.pth"
    file.write_bytes(content)
    for read in (read_published, load):
        with pytest.raises(
            InputError, match=f"is no checkpoint: it is {said}.*Give the detector.safetensors"
        ):
            read(file)


def test_a_state_dict_in_another_wrapping_is_read_or_its_keys_are_named(tmp_path):
    weight = {"a": torch.ones(2)}
    torch.save({"model_state_dict": weight, "epoch": 3}, tmp_path / "a.pth")
    assert list(read_state_dict(tmp_path / "a.pth")) == ["a"]
    torch.save({"net": weight, "epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(InputError, match="holds no state dict; it has net, epoch"):
        read_state_dict(tmp_path / "b.pth")


def test_a_truncated_checkpoint_is_refused(stored):
    stored.write_bytes(stored.read_bytes()[:-100])
    with pytest.raises(InputError, match="not an intact safetensors file"):
        load(stored)


def test_a_file_whose_length_looks_like_the_first_byte_of_a_pickle_is_none(model, tmp_path):
    # One in 32 headers of safetensors has a length that ends with the byte 0x80.
    path = save(model, tmp_path, CARD)
    weights = load_file(path)
    for spaces in range(0, 300, 8):
        save_file(weights, path, metadata={"note": " " * spaces})
        if path.read_bytes()[0] == 0x80:
            break
    update_card(path, sha256=sha256_of_file(path))
    assert path.read_bytes()[0] == 0x80
    assert load(path)[1]["width"] == 0.125


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


def test_every_weight_that_does_not_fit_is_told_apart(model):
    weights = dict(model.state_dict())
    weights["backbone.conv1.weight"] = weights.pop("encoder_f.conv1.weight")
    weights["head_spe.mlp.2.bias"] = torch.zeros(7)
    assert [str(misfit) for misfit in misfits(model.state_dict(), weights)] == [
        "encoder_f.conv1.weight: absent, wanted (8, 3, 3, 3)",
        "head_spe.mlp.2.bias: given (7,), wanted (3,)",
        "backbone.conv1.weight: unknown, given (8, 3, 3, 3)",
    ]
    assert misfits(model.state_dict(), model.state_dict()) == []


# Published weights: a flat state dict in a .pth file


def command(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}, "epoch": 3},
        lambda state: {"model": state},
    ],
    ids=["flat", "module.", "state_dict and module.", "model"],
)
def test_published_weights_are_read_flat_or_wrapped(model, tmp_path, wrapped):
    torch.save(wrapped(model.state_dict()), tmp_path / "ucf.pth")
    read = read_published(tmp_path / "ucf.pth")
    assert (read.training, read.width, read.method_classes) == (False, 0.125, 3)
    assert all(torch.equal(value, read.state_dict()[name]) for name, value in model.state_dict().items())


def test_exported_and_imported_again_a_detector_gives_equal_outputs(model, stored, tmp_path):
    exported = command("export-checkpoint", f"checkpoint={stored}", f"out={tmp_path / 'ucf.pth'}")
    assert exported.exit_code == 0, exported.output
    flat = torch.load(tmp_path / "ucf.pth", weights_only=True)
    assert list(flat) == list(model.state_dict())
    back = tmp_path / "back"
    imported = command(
        "import-checkpoint", f"file={tmp_path / 'ucf.pth'}", f"out={back}", "classes=[real,a,b]"
    )
    assert imported.exit_code == 0, imported.output
    loaded, card = load(back)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), model(IMAGES))
        order = torch.tensor([1, 0])
        again, before = loaded.forward_pairs(IMAGES, order), model.forward_pairs(IMAGES, order)
    assert all(torch.equal(getattr(again, name), value) for name, value in vars(before).items())
    assert card["method_classes"] == ["real", "a", "b"]
    assert card["imported"]["sha256"] == sha256_of_file(tmp_path / "ucf.pth")
    assert card["preprocessing"]["mean"] == [0.5] * 3


@pytest.mark.slow
def test_at_full_size_the_export_has_the_published_layout_and_comes_back_equal(shared, tmp_path):
    torch.manual_seed(1)
    full_size = UCF(method_classes=5).eval()
    flat = torch.load(write_state_dict(full_size, tmp_path / "ucf.pth"), weights_only=True)
    published = json.loads((shared / "reference" / "ucf_state_dict.json").read_text())
    found = [
        [name, list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in flat.items()
    ]
    assert found == published
    assert command("import-checkpoint", f"file={tmp_path / 'ucf.pth'}", f"out={tmp_path}").exit_code == 0
    loaded, card = load(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(IMAGES), full_size(IMAGES))
    assert card["method_classes"] == ["real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"]
    assert card["size_px"] == 256
    assert "non-commercial" in card["licence"]


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "legacy file"])
@pytest.mark.parametrize(
    "hidden",
    [
        lambda payload, state: payload,
        lambda payload, state: {"state_dict": payload},
        lambda payload, state: {**state, "head_sha.mlp.2.bias": payload},
    ],
    ids=["bare", "wrapped", "beside all weights"],
)
def test_published_weights_with_code_inside_are_refused_without_running_it(model, tmp_path, hidden, zipped):
    file, mark = tmp_path / "ucf.pth", tmp_path / "ran"
    content = hidden(Payload(mark), model.state_dict())
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    result = command("import-checkpoint", f"file={file}", f"out={tmp_path / 'out'}")
    assert result.exit_code == 2
    assert "refused without running it" in result.stderr
    assert "calls getattr" in result.stderr
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    torch.load(file, weights_only=False)  # the payload is a real one
    assert mark.exists()


def test_import_says_key_by_key_what_does_not_fit(model, tmp_path):
    weights = dict(model.state_dict())
    weights["backbone.conv1.weight"] = weights.pop("encoder_f.conv1.weight")
    torch.save(weights, tmp_path / "ucf.pth")
    result = command("import-checkpoint", f"file={tmp_path / 'ucf.pth'}", f"out={tmp_path / 'out'}")
    assert result.exit_code == 2
    assert "  encoder_f.conv1.weight: absent, wanted (8, 3, 3, 3)" in result.stdout
    assert "  backbone.conv1.weight: unknown, given (8, 3, 3, 3)" in result.stdout
    assert "1 of 600 weights are absent" in result.stderr
    assert not (tmp_path / "out").exists()


def test_published_weights_of_another_network_are_refused(tmp_path):
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="600 of 600 weights are absent"):
        read_published(tmp_path / "other.pth")


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, {}])
def test_a_file_without_a_state_dict_is_refused(tmp_path, value):
    torch.save(value, tmp_path / "other.pth")
    with pytest.raises(InputError, match="no state dict"):
        read_published(tmp_path / "other.pth")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no archive", b"something else"])
def test_a_file_that_is_not_pytorchs_is_refused(tmp_path, content):
    (tmp_path / "ucf.pth").write_bytes(content)
    said = r"checkpoint .*ucf\.pth is (not an intact PyTorch file|a pickle|no checkpoint: it is (empty|text))"
    with pytest.raises(InputError, match=said):
        read_published(tmp_path / "ucf.pth")


def test_weights_of_half_precision_in_shared_memory_are_read(model, tmp_path):
    half = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    half["encoder_c.bn1.bias"] = half["encoder_c.bn1.weight"] = torch.ones(8).half()
    torch.save(half, tmp_path / "ucf.pth")
    read = read_published(tmp_path / "ucf.pth")
    assert {value.dtype for value in read.parameters()} == {torch.float32}
    assert save(read, tmp_path, CARD).is_file()


def test_weights_that_are_no_numbers_are_refused(model, tmp_path):
    torch.nn.init.constant_(model.head_sha.mlp[2].bias, float("nan"))
    torch.save(model.state_dict(), tmp_path / "ucf.pth")
    with pytest.raises(InputError, match=r"not finite in 1 weights, head_sha\.mlp\.2\.bias"):
        read_published(tmp_path / "ucf.pth")


@pytest.mark.parametrize("names", [(), ("real", "a"), ("a", "real", "b"), ("real", "a", "a")])
def test_class_names_must_be_as_many_as_there_are_classes(names):
    with pytest.raises(InputError, match="tells 3 method classes apart"):
        class_names(names, 3)
