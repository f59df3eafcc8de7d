from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from unmasked.analysis.explain.gradcam import overlays, to_pixels
from unmasked.datasets.errors import InputError


class Net(nn.Module):
    """Two logits from the mean of rectified maps."""

    def __init__(self, seed: int = 0, inplace: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.layer = nn.Conv2d(6, 4, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=inplace)
        self.unused = nn.Conv2d(3, 2, 1)
        self.head = nn.Linear(4, 2)

    def forward(self, images):
        return self.head(self.act(self.layer(torch.tanh(self.first(images)))).mean(dim=(2, 3)))


@pytest.fixture
def images():
    return torch.rand((5, 3, 24, 32), generator=torch.Generator().manual_seed(1)) * 2 - 1


def by_hand(model: Net, images: torch.Tensor, target_class: int) -> np.ndarray:
    kept = {}
    handle = model.layer.register_forward_hook(lambda _m, _i, output: kept.update(a=output.clone()))
    maps = []
    for image in images:
        model(image[None])
        activation = kept["a"].detach().requires_grad_(True)
        logit = model.head(torch.relu(activation).mean(dim=(2, 3)))[0, target_class]
        (gradient,) = torch.autograd.grad(logit, activation)
        cam = (
            torch.relu((gradient.mean(dim=(2, 3), keepdim=True) * activation).sum(dim=1))[0].detach().numpy()
        )
        cam = (cam - cam.min()) / (1e-7 + (cam - cam.min()).max())
        cam = cv2.resize(cam, (images.shape[3], images.shape[2]))
        maps.append((cam - cam.min()) / (1e-7 + (cam - cam.min()).max()))
    handle.remove()
    return np.stack(maps)


@pytest.mark.parametrize("target_class", [0, 1])
@pytest.mark.parametrize("inplace", [False, True])
def test_maps_equal_grad_cam_by_hand(images, target_class, inplace):
    # In place, the library alone keeps the activations that the ReLU has overwritten.
    model = Net(inplace=inplace)
    result = overlays(model, images, model.layer, target_class=target_class, batch_size=2)
    np.testing.assert_allclose(result.maps, by_hand(Net(), images, target_class), atol=1e-4)


def test_result_has_the_pictures_and_overlays_of_the_same_size(images):
    model = Net()
    result = overlays(model, images, model.layer)
    assert result.maps.shape == (5, 24, 32)
    assert result.overlays.shape == result.pictures.shape == (5, 24, 32, 3)
    assert result.overlays.dtype == result.pictures.dtype == np.uint8
    assert result.maps.min() >= 0
    assert result.maps.max() <= 1


def test_every_picture_has_its_own_map(images):
    """Seen in other projects: one picture's map drawn over all of them."""
    model = Net()
    together = overlays(model, images, model.layer, batch_size=5)
    alone = [overlays(model, image[None], model.layer).maps[0] for image in images]
    np.testing.assert_allclose(together.maps, np.stack(alone), atol=1e-4)
    for one in range(5):
        for other in range(one):
            assert np.abs(together.maps[one] - together.maps[other]).mean() > 0.01
    shuffled = overlays(model, images.flip(0), model.layer)
    np.testing.assert_allclose(shuffled.maps, together.maps[::-1], atol=1e-4)


def test_map_points_at_what_the_detector_reacts_to():
    class Spot(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 1, 1, bias=False)
            self.layer.weight.data.fill_(1.0)

        def forward(self, images):
            level = torch.relu(self.layer(images)).mean(dim=(2, 3))
            return torch.cat([-level, level], dim=1)

    images = torch.full((1, 3, 32, 32), -1.0)
    images[:, :, 4:8, 20:24] = 1.0
    model = Spot()
    cam = overlays(model, images, model.layer).maps[0]
    assert cam[5, 21] == pytest.approx(1, abs=1e-4)
    assert cam[20:, :].max() == 0


def test_map_without_evidence_is_flagged_blank(images, caplog):
    model = Net()
    model.head.weight.data.zero_()
    result = overlays(model, images, model.layer)
    assert result.blank.all()
    assert not result.maps.any()
    assert "5 of 5 Grad-CAM maps are blank" in caplog.text
    trained = Net()
    assert not overlays(trained, images, trained.layer).blank.any()


@pytest.mark.parametrize("training", [True, False])
def test_model_is_left_as_it_was(images, training):
    model = Net().train(training)
    model.head.weight.grad = torch.full_like(model.head.weight, 7.0)
    overlays(model, images, model.layer)
    assert model.training is training
    assert not model.layer._forward_hooks
    assert (model.head.weight.grad == 7).all()
    assert model.first.weight.grad is None


def test_hooks_are_removed_after_an_error(images):
    model = Net()
    with pytest.raises(IndexError):
        overlays(model, images, model.layer, target_class=9)
    assert not model.layer._forward_hooks
    assert model.training


def test_frozen_model_without_gradients_can_be_explained(images):
    model, frozen = Net(), Net().requires_grad_(False)
    with torch.no_grad():
        maps = overlays(frozen, images, frozen.layer).maps
    np.testing.assert_allclose(maps, overlays(model, images, model.layer).maps, atol=1e-6)


def test_layer_outside_the_pass_is_refused_by_name(images):
    model = Net()
    with pytest.raises(InputError, match=r"Conv2d ran 0 times"):
        overlays(model, images, model.unused)
    assert not model.unused._forward_hooks


def test_layer_that_runs_twice_is_refused(images):
    class Twice(Net):
        def forward(self, images):
            return super().forward(images) + super().forward(images.flip(3))

    model = Twice()
    with pytest.raises(InputError, match="ran 2 times"):
        overlays(model, images, model.layer)


@pytest.mark.parametrize("shape", [(3, 8, 8), (0, 3, 8, 8), (2, 1, 8, 8)])
def test_wrong_shapes_are_refused(shape):
    model = Net()
    with pytest.raises(InputError, match="shape"):
        overlays(model, torch.zeros(shape), model.layer)


def test_pixels_span_the_whole_range():
    images = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0]).expand(1, 3, 1, 5)
    assert to_pixels(images)[0, 0, :, 0].tolist() == [0, 0, 128, 255, 255]


# Transformers


class Transformer(nn.Module):
    """A tiny timm ViT: 16 patches behind a class token and four registers."""

    def __init__(self):
        super().__init__()
        import timm

        torch.manual_seed(0)
        self.vit = timm.models.VisionTransformer(
            img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=2, reg_tokens=4
        )
        self.cam_layer = self.vit.blocks[-1].norm1

    def forward(self, images):
        return self.vit(images)


def test_maps_of_tokens_are_grad_cam_on_the_square_of_patches():
    model = Transformer().eval()
    images = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    kept = {}
    hook = model.cam_layer.register_forward_hook(
        lambda module, given, output: kept.update(tokens=output) or output.retain_grad()
    )
    model(images)[:, 1].sum().backward()
    hook.remove()
    tokens, gradients = kept["tokens"][:, 5:], kept["tokens"].grad[:, 5:]  # (3, 16, 24)
    maps = (tokens * gradients.mean(1, keepdim=True)).sum(2).relu().unflatten(1, (4, 4)).detach().numpy()
    found = overlays(model, images, model.cam_layer).maps
    for expected, given in zip(maps, found, strict=True):
        enlarged = cv2.resize(expected / expected.max(), (32, 32))
        np.testing.assert_allclose(given, enlarged / enlarged.max(), atol=0.02)
