"""The network against the published layout and against stored outputs of the published implementation."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from unmasked.ucf.config import LossConfig
from unmasked.ucf.losses import Orders, ucf_losses
from unmasked.ucf.model import UCF
from unmasked.ucf.xception import scaled_channels

REFERENCE = Path(__file__).parents[2] / "shared" / "reference"
RELATIVE = 1e-4

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


def filled_by_rule(model: UCF) -> UCF:
    state = {}
    for name, value in model.state_dict().items():
        shape = tuple(value.shape)
        r = np.random.default_rng([20231, zlib.crc32(name.encode())])
        if name.endswith("num_batches_tracked"):
            filled = np.zeros(shape)
        elif name.endswith("running_var"):
            filled = 1 + 0.1 * np.abs(r.standard_normal(shape))
        elif name.endswith("running_mean"):
            filled = 0.1 * r.standard_normal(shape)
        elif len(shape) >= 2:
            filled = r.standard_normal(shape) * np.sqrt(1.6 / np.prod(shape[1:]))
        elif name.endswith("weight"):
            filled = 0.8 * (1 + 0.1 * r.standard_normal(shape))
        else:
            filled = 0.1 * r.standard_normal(shape)
        state[name] = torch.tensor(filled).to(value.dtype).reshape(shape)
    model.load_state_dict(state)
    return model.eval()


def relative_error(ours: torch.Tensor | float, theirs: np.ndarray) -> float:
    ours = np.asarray(ours.detach() if isinstance(ours, torch.Tensor) else ours, dtype=np.float64)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.fixture(scope="module")
def reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE / "ucf_reference.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def published() -> UCF:
    return filled_by_rule(UCF())


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
def test_training_pass_equals_the_published_outputs_losses_and_gradients(published, images, reference, case):
    published.zero_grad()
    orders = ORDERS[case]
    output = published.forward_pairs(images, orders.mixing)
    losses = ucf_losses(output, images, LABELS, METHODS, orders=orders, config=LossConfig())
    losses.overall.backward()
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
    gradients = {name: p.grad.norm() for name, p in published.named_parameters() if p.grad is not None}
    prefix = f"{case}_gradnorm_"
    for key in reference:
        if key.startswith(prefix):
            values[key.removeprefix(f"{case}_")] = gradients[key.removeprefix(prefix)]
    stored = {key.removeprefix(f"{case}_") for key in reference if key.startswith(f"{case}_")}
    assert set(values) == stored
    errors = {name: relative_error(value, reference[f"{case}_{name}"]) for name, value in values.items()}
    assert max(errors.values()) < RELATIVE, errors


def test_width_scales_channels_in_multiples_of_eight():
    assert [scaled_channels(n, 0.125) for n in (32, 64, 728, 2048)] == [8, 8, 88, 256]
    model = UCF(width=0.125, method_classes=3)
    assert model.head_spe.mlp[2].weight.shape == (3, 64)
    assert model.features(torch.zeros(1, 3, 64, 64)).shape == (1, 32)
