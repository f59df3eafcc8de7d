"""GenD: losses and rates are the published ones, its files are read, only norms and head learn."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.config import CONFIGS, load
from unmasked.app.detectors import find
from unmasked.app.verbs.train import config_of
from unmasked.app.weights import pinned_of
from unmasked.baselines import gend
from unmasked.baselines.clip_names import clip_by_timm_names
from unmasked.baselines.gend import Config, Network, alignment, phases, translate, uniformity
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES
from unmasked.training import checkpoint
from unmasked.training.detector import Step
from unmasked.training.module import learning_rate_factor
from unmasked.training.phases import rate_of

CLIP = "vit_large_patch14_clip_quickgelu_224"
PE = "vit_pe_core_large_patch14_336"
DINO = "vit_large_patch16_dinov3"
TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2}
FILES = sorted((CONFIGS / "gend").glob("*.yaml"))


@pytest.fixture
def tiny(monkeypatch):
    """timm makes the large networks' small likenesses."""
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **options: create(name, **TINY, **options))


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    FACES.write(FACES.validate(write_faces(root, {"train": 4, "val": 2}, frames=2)), root / "faces.parquet")
    return root / "faces.parquet"


def config(**model) -> Config:
    return Config.model_validate({"model": model})


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def huggingface_clip(width: int, depth: int, prefix: str = "vision_model.") -> dict[str, torch.Tensor]:
    """Random weights of CLIP ViT/14 at 224 px in transformers' names, as GenD's file has them."""
    shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "embeddings.position_embedding.weight": (257, width),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    linear = {}
    for layer in (f"encoder.layers.{number}" for number in range(depth)):
        norms += [f"{layer}.layer_norm1", f"{layer}.layer_norm2"]
        linear |= {f"{layer}.self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
        linear |= {f"{layer}.mlp.fc1": (4 * width, width), f"{layer}.mlp.fc2": (width, 4 * width)}
    for norm in norms:
        shapes |= {f"{norm}.weight": (width,), f"{norm}.bias": (width,)}
    for name, shape in linear.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    inner = {f"{prefix}{name}": shape for name, shape in shapes.items()}
    inner["visual_projection.weight"] = (768, width)
    named = {f"feature_extractor.{name}": shape for name, shape in inner.items()}
    named |= {"model.linear.weight": (2, width), "model.linear.bias": (2,)}
    if torch.get_default_device().type == "meta":
        return {name: torch.empty(shape) for name, shape in named.items()}
    draws = torch.Generator().manual_seed(5)
    return {name: torch.randn(shape, generator=draws) * 0.2 for name, shape in named.items()}


def clip_logits(weights, whitened, depth: int, heads: int, prefix: str = "vision_model."):
    """CLIP's image network and GenD's head, written down from transformers' names, in float64."""
    w = {name: value.double() for name, value in weights.items()}

    def of(name, end="weight"):
        return w[f"feature_extractor.{prefix}{name}.{end}"]

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], of(name), of(name, "bias"), 1e-5)

    def linear(x, name):
        return functional.linear(x, of(name), of(name, "bias"))

    x = functional.conv2d(whitened.double(), of("embeddings.patch_embedding"), stride=14).flatten(2).mT
    token = w[f"feature_extractor.{prefix}embeddings.class_embedding"].expand(len(x), 1, -1)
    x = norm(torch.cat([token, x], 1) + of("embeddings.position_embedding"), "pre_layrnorm")
    for layer in (f"encoder.layers.{number}" for number in range(depth)):
        y = norm(x, f"{layer}.layer_norm1")
        q, k, v = (
            linear(y, f"{layer}.self_attn.{part}_proj").unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        mixed = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"{layer}.self_attn.out_proj")
        y = linear(norm(x, f"{layer}.layer_norm2"), f"{layer}.mlp.fc1")
        x = x + linear(y * torch.sigmoid(1.702 * y), f"{layer}.mlp.fc2")
    feature = norm(x[:, 0], "post_layernorm")
    unit = feature / feature.norm(dim=1, keepdim=True)
    return functional.linear(unit, w["model.linear.weight"], w["model.linear.bias"])


def test_losses_are_the_reference():
    generator = np.random.default_rng(0)
    x = torch.from_numpy(generator.standard_normal((8, 16)))
    unit, labels = functional.normalize(x, dim=1), torch.tensor([0, 1] * 4)
    assert float(alignment(unit, labels)) == pytest.approx(2.010507651978, abs=1e-11)
    assert float(uniformity(unit)) == pytest.approx(-3.484287853834, abs=1e-11)
    weight = torch.from_numpy(generator.standard_normal((2, 16))) * 0.1
    logits = functional.linear(unit, weight, torch.tensor([0.05, -0.05], dtype=torch.float64))
    step = Step(
        images=x,
        labels=labels,
        methods=labels,
        rows=torch.arange(8),
        drawn={},
        model=torch.nn.Identity(),
        forward=lambda images: (logits, unit),
        robust=None,
    )
    losses = gend.objective(step, Config())
    assert float(losses["cross_entropy"]) == pytest.approx(0.710663106169, abs=1e-6)
    assert float(losses["overall"]) == pytest.approx(-0.830430055550, abs=1e-6)


def test_losses_of_simple_features_are_known():
    corner = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1], [0.5**0.5, 0.5**0.5]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 1, 1, 0])
    assert float(alignment(corner, labels)) == pytest.approx(0.2928932188, abs=1e-9)
    assert float(uniformity(corner)) == pytest.approx(-1.1047976240, abs=1e-9)
    square = torch.eye(4, dtype=torch.float64)
    halves = torch.tensor([0, 0, 1, 1])
    assert float(alignment(square, halves)) == pytest.approx(2)
    assert float(uniformity(square)) == pytest.approx(-4)
    alike = torch.ones(4, 4, dtype=torch.float64) / 2
    assert (float(alignment(alike, halves)), float(uniformity(alike))) == (0, 0)
    assert float(alignment(square[:2], torch.tensor([0, 1]))) == 0  # no two of one class
    n, unit = 50, functional.normalize(torch.randn(50, 6, dtype=torch.float64), dim=1)
    closed = 2 * (n**2 - float(unit.sum(0).square().sum())) / (n * (n - 1))
    assert float(alignment(unit, torch.zeros(n))) == pytest.approx(closed)


def test_equal_features_have_a_gradient():
    x = torch.ones(3, 4, requires_grad=True)
    unit = functional.normalize(x, dim=1)
    (uniformity(unit) + alignment(unit, torch.tensor([0, 0, 1]))).backward()
    assert torch.isfinite(x.grad).all()


def test_the_rate_is_the_published_one_over_thirty_epochs():
    published = {0: 1e-5, 0.5: 1.55e-4, 1: 3e-4, 2: 2.929e-4, 6: 1.55e-4, 11: 3e-4, 21: 3e-4, 29.99: 1.724e-5}
    settings = Config().optimiser
    for epoch, rate in published.items():
        found = learning_rate_factor(round(epoch * 100) / 3000, settings) * settings.lr
        assert found == pytest.approx(rate, rel=5e-4), epoch
    assert learning_rate_factor(1099 / 3000, settings) * settings.lr == pytest.approx(1e-5, rel=1e-2)


@pytest.mark.parametrize(
    ("name", "norms", "trunk"),
    [(CLIP, 102_400, 303_179_776), (PE, 104_448, 316_102_656), (DINO, 100_352, 303_079_424)],
)
def test_what_trains_of_the_published_networks(name, norms, trunk):
    settings = config(backbone=name)
    with torch.device("meta"):
        model = Network(settings.model)
    (phase,) = phases(model, settings)
    moving = {key: value.numel() for key, value in model.named_parameters() if rate_of(key, phase)}
    assert sum(size for key, size in moving.items() if key.startswith("head.")) == 2050
    assert sum(moving.values()) == norms + 2050
    assert sum(value.numel() for value in model.trunk.parameters()) == trunk


def test_the_published_file_fits_name_by_name():
    """394 tensors of 303,968,258 numbers, by its size."""
    with torch.device("meta"):
        file = huggingface_clip(1024, 24)
        model = Network(config(backbone=CLIP).model)
    assert (len(file), sum(value.numel() for value in file.values())) == (394, 303_968_258)
    assert checkpoint.misfits(model.state_dict(), translate(file, model)) == []
    pinned = pinned_of("gend_clip_l_14")
    assert (pinned.detector, pinned.model) == ("gend", {"backbone": CLIP})


@pytest.mark.parametrize("prefix", ["vision_model.", ""])
def test_a_file_of_gend_on_clip_scores_as_clip_does(tiny, tmp_path, prefix):
    """Newer versions of transformers write the names without their prefix."""
    weights = huggingface_clip(32, 2, prefix)
    save_file(weights, tmp_path / "model.safetensors")
    out = tmp_path / "imported"
    done = invoke(
        "import-checkpoint",
        "detector=gend",
        f"file={tmp_path}/model.safetensors",
        f"model.backbone={CLIP}",
        f"out={out}",
    )
    assert done.exit_code == 0, done.output
    model, _ = checkpoint.load(find("gend"), out)
    images = torch.rand(3, 3, 224, 224) * 2 - 1
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    expected = clip_logits(weights, ((images + 1) / 2 - mean) / std, 2, 2, prefix)
    with torch.inference_mode():
        torch.testing.assert_close(model(images).double(), expected, rtol=1e-4, atol=1e-5)
        assert torch.allclose(model.features(images).norm(dim=1), torch.ones(3))


def test_a_network_with_another_activation_is_refused(tiny, tmp_path):
    """Names and shapes of both are equal: it would score silently wrong."""
    save_file(huggingface_clip(32, 2), tmp_path / "model.safetensors")
    out = tmp_path / "imported"
    arguments = ["detector=gend", f"file={tmp_path}/model.safetensors", f"out={out}"]
    done = invoke("import-checkpoint", *arguments, "model.backbone=vit_large_patch14_clip_224.openai")
    assert done.exit_code == 2
    assert "quick GELU" in done.stderr
    assert f"give model.backbone={CLIP}" in " ".join(done.stderr.split())
    assert not out.exists()


@pytest.mark.parametrize("name", [PE, DINO])
def test_a_file_of_gend_in_the_names_of_timm_is_read(tiny, name):
    model = Network(config(backbone=name).model).eval()
    stored = {
        f"feature_extractor.backbone.{key}": value + 1 for key, value in model.trunk.state_dict().items()
    }
    stored |= {"model.linear.weight": torch.ones(2, 32), "model.linear.bias": torch.ones(2)}
    found = translate(stored, model)
    assert checkpoint.misfits(model.state_dict(), found) == []
    torch.testing.assert_close(found["trunk.norm.weight"], model.trunk.norm.weight + 1)


def test_weights_of_the_whole_clip_start_a_training(tiny, tmp_path):
    """Its language network and its projections are left."""
    weights = {
        name.removeprefix("feature_extractor."): value
        for name, value in huggingface_clip(32, 2).items()
        if name.startswith("feature_extractor.")
    }
    weights |= {"logit_scale": torch.ones(1), "text_model.final_layer_norm.weight": torch.ones(8)}
    save_file(weights, tmp_path / "clip.safetensors")
    settings = config(backbone=CLIP, weights=str(tmp_path / "clip.safetensors"))
    model = gend.build(settings, [])
    gend.initialise(model, settings)
    torch.testing.assert_close(model.trunk.norm_pre.bias, weights["vision_model.pre_layrnorm.bias"])


def test_a_part_of_the_attention_that_is_absent_is_a_misfit(tiny, tmp_path):
    weights = {
        name.removeprefix("feature_extractor."): value
        for name, value in huggingface_clip(32, 2).items()
        if name.startswith("feature_extractor.") and "layers.1.self_attn.k_proj" not in name
    }
    save_file(weights, tmp_path / "clip.safetensors")
    assert clip_by_timm_names(weights, CLIP)["blocks.1.attn.qkv.weight"].shape == (64, 32)
    settings = config(backbone=CLIP, weights=str(tmp_path / "clip.safetensors"))
    with pytest.raises(InputError, match=r"blocks\.1\.attn\.qkv\.weight is \(64, 32\)"):
        gend.initialise(gend.build(settings, []), settings)


def test_a_network_without_layer_norm_is_refused():
    with pytest.raises(InputError, match="has no LayerNorm"):
        gend.build(config(backbone="resnet18", size_px=32), [])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_each_configuration_names_a_network(file):
    values = load(config_of("gend"), file)
    with torch.device("meta"):
        assert isinstance(Network(values.model).cam_layer, torch.nn.Module)


def test_nothing_but_norms_and_head_learns_and_it_goes_through_the_commands(tiny, faces, tmp_path):
    settings = config(backbone=PE, size_px=56)
    start = Network(settings.model).trunk.state_dict()
    torch.save(start, tmp_path / "start.pth")
    run = tmp_path / "run"
    base = ["train", "detector=gend", f"faces={faces}", f"out={run}", f"model.backbone={PE}"]
    base += ["model.size_px=56", "training.batch_images=8", f"model.weights={tmp_path}/start.pth"]
    for arguments in (
        [*base, "training.max_steps=1", "data.fakes=self_blended"],
        [*base, "training.max_steps=2", "data.fakes=self_blended", "resume=true"],
        ["predict", f"checkpoint={run}", f"faces={faces}", f"out={run}/predictions.parquet"],
        ["explain", f"checkpoint={run}", f"faces={faces}", "pictures=1", "points=10", "methods=[]"],
        ["export-checkpoint", f"checkpoint={run}", f"out={tmp_path}/out.pth"],
    ):
        done = invoke(*arguments)
        assert done.exit_code == 0, f"{arguments}\n{done.output}\n{done.exception}"
    learned = load_file(run / "detector.safetensors")
    changed = {key for key, value in start.items() if not torch.equal(learned[f"trunk.{key}"], value)}
    assert changed == {key for key in start if "norm" in key}
    assert (run / "explain" / "cam.png").is_file()
    done = invoke(
        "import-checkpoint",
        "detector=gend",
        f"file={tmp_path}/out.pth",
        f"model.backbone={PE}",
        "model.size_px=56",
        f"out={tmp_path}/imported",
    )
    assert done.exit_code == 0, done.output
