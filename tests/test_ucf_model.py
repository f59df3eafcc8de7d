"""The network against the published layout and against stored outputs of the published implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from reference_weights import fill_by_name

from unmasked.ucf.config import LossConfig
from unmasked.ucf.losses import Orders, ucf_losses
from unmasked.ucf.model import UCF
from unmasked.ucf.xception import scaled_channels

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
RELATIVE = 1e-4
# Norms of gradients through 60 layers: the reference was computed in single precision and is itself up to
# 1.1e-4 from the value in double precision (both encoders' first convolution). Ours are taken in double
# precision, so that the comparison is the same on every processor; in single precision some are 2.5e-4 off.
RELATIVE_GRADIENT = 1.2e-4

needs_reference = pytest.mark.skipif(
    not (REFERENCE / "ucf_reference.npz").is_file(), reason=f"no reference outputs in {REFERENCE}"
)
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
METHODS = torch.tensor([0, 0, 0, 1, 3, 3])
# The rule in the reference's own description: row orders of the two stored training passes.
ORDERS = {
    "plain": Orders(
        mixing=torch.arange(6),
        common_anchors=torch.arange(6),
        specific_anchors=torch.tensor([2, 1, 0, 3, 5, 4]),
    ),
    "reversed": Orders(
        mixing=torch.tensor([2, 1, 0, 5, 4, 3]),
        common_anchors=torch.tensor([2, 1, 0, 5, 4, 3]),
        specific_anchors=torch.arange(6),
    ),
}


def relative_error(ours: torch.Tensor | float, theirs: np.ndarray) -> float:
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "ucf_reference.npz") as stored:
        return dict(stored)


def run_encoders_once(model: UCF, images: torch.Tensor) -> UCF:
    """Every test sees the same images, and encoders are most of the time."""
    for encoder in (model.encoder_f, model.encoder_c):
        maps = encoder(images)
        encoder.forward = lambda given, maps=maps: maps if given is images else pytest.fail("other images")
    return model


@pytest.fixture(scope="module")
def published(images) -> UCF:
    with torch.no_grad():
        return run_encoders_once(fill_by_name(UCF(), 20231), images)


@pytest.fixture(scope="module")
def exact(images) -> UCF:
    """The same network in double precision."""
    model = run_encoders_once(fill_by_name(UCF(), 20231).double(), images := images.double())
    model.images = images
    return model


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    uniform = np.random.default_rng([20231, 7]).uniform(-1, 1, (6, 3, 256, 256))
    return torch.from_numpy(uniform.astype(np.float32))


@needs_reference
def test_state_dict_has_the_published_names_order_shapes_and_types():
    listed = json.loads((REFERENCE / "ucf_state_dict.json").read_text())
    with torch.device("meta"):
        state = UCF().state_dict()
    ours = [
        [name, list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in state.items()
    ]
    assert ours == listed


@needs_reference
@pytest.mark.slow
def test_inference_equals_the_published_outputs(published, images, reference):
    with torch.no_grad():
        maps = {"encoder_f": published.encoder_f(images), "encoder_c": published.encoder_c(images)}
        logits, features = published.forward_with_features(images)
    assert relative_error(logits, reference["infer_logits"]) < RELATIVE
    assert relative_error(features, reference["infer_feat"]) < RELATIVE
    for name, values in maps.items():
        assert relative_error(values[:, ::32], reference[name]) < RELATIVE, name


@needs_reference
@pytest.mark.slow
@pytest.mark.parametrize("case", ["plain", "reversed"])
def test_training_pass_equals_the_published_outputs_losses_and_gradients(
    published, exact, images, reference, case
):
    orders = ORDERS[case]
    with torch.no_grad():
        output = published.forward_pairs(images, orders.mixing)
    losses = ucf_losses(output, images, LABELS, METHODS, orders=orders, config=LossConfig())
    values = {
        "cls": output.common_logits,
        "cls_spe": output.method_logits,
        "feat": output.common_features,
        "feat_spe": output.specific_features,
        "image_0": output.cross_real[:, :, ::16, ::16],
        "image_1": output.cross_fake[:, :, ::16, ::16],
        "image_2": output.self_fake[:, :, ::16, ::16],
        "image_3": output.self_real[:, :, ::16, ::16],
    }
    for name in ("overall", "common", "specific", "reconstruction", "contrastive"):
        values[f"loss_{name}"] = getattr(losses, name)
    errors = {name: relative_error(value, reference[f"{case}_{name}"]) for name, value in values.items()}
    assert max(errors.values()) < RELATIVE, errors

    exact.zero_grad()
    output = exact.forward_pairs(exact.images, orders.mixing)
    losses = ucf_losses(output, exact.images, LABELS, METHODS, orders=orders, config=LossConfig())
    losses.overall.backward(retain_graph=True)  # the encoders' part serves the other case
    gradients = {
        f"gradnorm_{name}": p.grad.norm() for name, p in exact.named_parameters() if p.grad is not None
    }
    stored = {key.removeprefix(f"{case}_") for key in reference if key.startswith(f"{case}_")}
    compared = stored & gradients.keys()
    assert stored == values.keys() | compared
    errors = {name: relative_error(gradients[name], reference[f"{case}_{name}"]) for name in compared}
    assert max(errors.values()) < RELATIVE_GRADIENT, errors


def test_width_scales_channels_in_multiples_of_eight():
    assert [scaled_channels(n, 0.125) for n in (32, 64, 728, 2048)] == [8, 8, 88, 256]
    model = UCF(width=0.125, method_classes=3)
    assert model.head_spe.mlp[2].weight.shape == (3, 64)
    assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 32)


def test_forward_takes_the_lean_path_only():
    model = UCF(width=0.125).eval()
    for unused in (model.encoder_c, model.con_gan, model.block_spe, model.head_spe):
        unused.forward = None  # calling it would fail
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 2)


def test_training_pass_and_scoring_give_the_same_common_logits():
    model = UCF(width=0.125).eval()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        output = model.forward_pairs(images)
        torch.testing.assert_close(output.common_logits, model(images))
        torch.testing.assert_close(output.common_features, model.features(images))


@pytest.mark.parametrize("size", [(64, 64), (112, 112), (130, 97)])
def test_reconstructions_have_the_size_of_the_images(size):
    output = UCF(width=0.125).forward_pairs(torch.zeros(4, 3, *size))
    assert output.cross_fake.shape == (2, 3, *size)
    assert torch.isfinite(output.cross_fake).all()


def test_four_decodes_in_one_batch_equal_four_decodes_one_by_one():
    model = UCF(width=0.125).eval()
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        output = model.forward_pairs(images)
        forgery = model.encoder_f(images)
        real_print, fake_print = torch.cat([model.block_spe(forgery), model.block_sha(forgery)], 1).chunk(2)
        real, fake = model.encoder_c(images).chunk(2)
        alone = {
            "self_real": model.con_gan(real_print, real, (64, 64)),
            "self_fake": model.con_gan(fake_print, fake, (64, 64)),
            "cross_real": model.con_gan(fake_print, real, (64, 64)),
            "cross_fake": model.con_gan(real_print, fake, (64, 64)),
        }
    for name, image in alone.items():
        torch.testing.assert_close(getattr(output, name), image)


def test_images_below_the_smallest_size_are_refused():
    with pytest.raises(ValueError, match="at least 64 pixels"):
        UCF(width=0.125)(torch.zeros(1, 3, 63, 64))


def test_cam_layer_is_the_last_map_before_the_branches():
    model, seen = UCF(width=0.125).eval(), []
    handle = model.cam_layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(torch.zeros(1, 3, 128, 128))
    handle.remove()
    assert seen[0].shape == (1, 64, 4, 4)


def test_every_parameter_but_the_unused_classifier_gets_a_gradient():
    model = UCF(width=0.125)
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    output = model.forward_pairs(images)
    labels = torch.tensor([0, 0, 1, 1])
    orders = Orders(torch.arange(4), torch.tensor([1, 0, 3, 2]), torch.arange(4))
    ucf_losses(output, images, labels, labels, orders=orders, config=LossConfig()).overall.backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {f"encoder_{part}.last_linear.{kind}" for part in "fc" for kind in ("weight", "bias")}
    assert not any(p.requires_grad for name, p in model.named_parameters() if name in without)
