"""Inception-ResNet-v1 is facenet-pytorch's: names, shapes, maps, embeddings, gradients; and learns."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
import torch
from reference_weights import fill_by_name

from unmasked.analysis.explain.gradcam import overlays
from unmasked.app.detectors import find
from unmasked.baselines.inception_resnet_v1 import WHITENING, Config, InceptionResnetV1, initialise, phases
from unmasked.datasets.errors import InputError
from unmasked.training.checkpoint import read_state_dict


@pytest.fixture(scope="module")
def network():
    """Weights are filled by name, as in the reference."""
    return fill_by_name(InceptionResnetV1(), 20261)


@pytest.fixture
def reference(shared):
    return np.load(shared / "reference" / "inception_resnet_v1_reference.npz")


@pytest.fixture(scope="module")
def images():
    drawn = np.random.default_rng([20261, 7]).uniform(-1, 1, (4, 3, 160, 160)).astype(np.float32)
    return torch.from_numpy(drawn)


def test_names_and_shapes_are_those_of_facenet(shared):
    stored = json.loads((shared / "reference" / "inception_resnet_v1_state_dict.json").read_text())["binary"]
    with torch.device("meta"):
        ours = InceptionResnetV1().state_dict()
    assert [(name, list(value.shape)) for name, value in ours.items()] == [
        (name, shape) for name, shape, _ in stored
    ]


def test_outputs_maps_and_gradients_are_those_of_facenet(network, reference, images):
    kept = {}
    handles = [
        stage.register_forward_hook(lambda _, __, out, name=name: kept.__setitem__(name, out.detach()))
        for name, stage in network.named_children()
    ]
    whitened = images.clone().requires_grad_()
    logits = network(whitened / WHITENING)
    for handle in handles:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), whitened)
    stages = [key.removeprefix("map_") for key in reference.files if key.startswith("map_")]
    assert len(stages) == 13
    for stage in stages:
        channels, pixels = reference[f"steps_{stage}"]
        np.testing.assert_allclose(
            kept[stage][:, ::channels, ::pixels, ::pixels],
            reference[f"map_{stage}"],
            atol=2e-5,
            err_msg=stage,
        )
    np.testing.assert_allclose(logits.detach()[:, 1:], reference["logits"], atol=5e-6)
    assert not logits[:, 0].any()
    np.testing.assert_allclose(gradient.flatten(1).norm(dim=1), reference["input_grad_norm"], rtol=1e-4)
    raw = network.raw_embedding(images).detach()
    np.testing.assert_allclose(raw, reference["embedding_raw"], atol=5e-6)
    np.testing.assert_allclose(raw / raw.norm(dim=1, keepdim=True), reference["embedding"], atol=5e-6)


def test_the_signed_map_at_block8_is_complete(network, reference, images):
    """Behind block8 the head is affine: the map's sum is the logit but for a constant."""
    maps = network.maps(images).detach().requires_grad_()
    logit = network.logits(network.last_bn(network.last_linear(maps.mean((2, 3)))))
    (gradient,) = torch.autograd.grad(logit.sum(), maps)
    signed = (gradient.mean((2, 3), keepdim=True) * maps).sum(1).detach()
    np.testing.assert_allclose(signed, reference["camsigned_block8"], atol=1e-5)
    constant = (logit[:, 0] - signed.sum((1, 2))).detach()
    np.testing.assert_allclose(constant, constant[0].expand(4), atol=1e-5)
    assert network.cam_layer is network.block8


def test_grad_cam_is_drawn_with_its_sign_and_is_never_blank(network, reference, images):
    """Clipped at 0 it was blank where every cell is evidence for real."""
    found = overlays(network, images / WHITENING, network.cam_layer)
    for given, cells in zip(found.maps, reference["camsigned_block8"], strict=True):
        enlarged = cv2.resize(cells.astype(np.float32), (160, 160))
        np.testing.assert_allclose(given, enlarged / np.abs(enlarged).max(), atol=2e-3)
    assert (found.maps < 0).any()
    assert not found.blank.any()


def test_a_file_of_face_recognition_fills_the_trunk_and_its_classifier_is_dropped(network, tmp_path):
    weights = {**network.state_dict(), "logits.weight": torch.ones(86, 512), "logits.bias": torch.ones(86)}
    torch.save({"model_state_dict": weights, "epoch": 32}, tmp_path / "vggface2.pt")
    assert set(read_state_dict(tmp_path / "vggface2.pt")) == set(weights)
    config = Config.model_validate({"model": {"weights": str(tmp_path / "vggface2.pt")}})
    model = InceptionResnetV1()
    head = model.logits.weight.clone()
    initialise(model, config)
    torch.testing.assert_close(model.block8.conv2d.weight, network.block8.conv2d.weight)
    torch.testing.assert_close(model.logits.weight, head)
    assert [dict(phase.rates) for phase in phases(model, config)] == [
        {"logits.": 1.0},
        {"": 0.1, "logits.": 1.0},
    ]


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    torch.save({"layer1.weight": torch.ones(3)}, tmp_path / "other.pt")
    config = Config.model_validate({"model": {"weights": str(tmp_path / "other.pt")}})
    with pytest.raises(InputError, match=r"weights are absent .*layer1\.weight.*vggface2"):
        initialise(InceptionResnetV1(), config)


@pytest.mark.parametrize("size_px", [75, 160, 256])
def test_it_takes_images_from_75_px_on(network, size_px):
    with torch.inference_mode():
        assert network(torch.zeros(1, 3, size_px, size_px)).shape == (1, 2)
    assert find("inception_resnet_v1").title == "Inception-ResNet-v1"
