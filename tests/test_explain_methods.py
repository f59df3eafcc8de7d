from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from captum.attr import Occlusion
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus
from torch import nn

from unmasked.analysis.explain import checks, methods
from unmasked.analysis.explain.checks import check_method, inside, is_blank, likeness, order_gains
from unmasked.analysis.explain.methods import METHODS, Explained, Method, blurred, method_maps
from unmasked.analysis.explain.regions import REGIONS, crop_scale, face_regions, grid, region_shares
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.align import similarity_matrix, template
from unmasked.preprocessing.faces import MATRIX, POINTS

SIZE, PATCH = 32, 6


class Checkers(nn.Module):
    """Finds a chequered patch anywhere: the strongest answer of a fixed filter is the margin."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        board = torch.ones(5, 5)
        board[::2, 1::2] = board[1::2, ::2] = -1
        self.block = nn.Sequential(nn.Conv2d(3, 4, 5, padding=2, bias=False), nn.ReLU())
        self.head = nn.Linear(4, 2, bias=False)
        with torch.no_grad():
            self.block[0].weight.normal_(std=0.01)
            self.block[0].weight[0] += board / 75
            self.head.weight.copy_(torch.tensor([[-4.0, 0, 0, 0], [4.0, 0, 0, 0]]))

    def forward(self, images):
        return self.head(self.block(images).square().mean(dim=(2, 3)) * 50)


class Linear(nn.Module):
    """The margin is a weighted sum of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(3 * SIZE * SIZE, generator=generator) / SIZE)

    def forward(self, images):
        margin = images.flatten(1) @ self.weight
        return torch.stack([-margin / 2, margin / 2], dim=1)

    def parts(self, images) -> np.ndarray:
        """(N, H, W) what each pixel adds to the margin, against the blurred picture."""
        found = (images - blurred(images)) * self.weight.detach().view(3, SIZE, SIZE)
        return found.sum(dim=1).double().numpy()


@pytest.fixture(scope="module")
def planted():
    """Smooth pictures with a chequered patch, and where it is."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(0, 0.3, (6, 3, 4, 4)).astype(np.float32))
    images = nn.functional.interpolate(images, size=(SIZE, SIZE), mode="bilinear").clamp(-0.5, 0.5)
    masks = np.zeros((6, SIZE, SIZE), bool)
    board = 0.5 * (-1.0) ** torch.arange(PATCH)
    for picture, mask in zip(images, masks, strict=True):
        top, left = rng.integers(1, SIZE - PATCH - 1, 2)
        picture[:, top : top + PATCH, left : left + PATCH] += torch.outer(board, board) * 2
        mask[top : top + PATCH, left : left + PATCH] = True
    return images.clamp(-1, 1), masks


@pytest.fixture(scope="module")
def detector():
    model = Checkers()
    return Explained(model, model.block)


@pytest.mark.parametrize("name", list(METHODS))
def test_every_method_finds_a_planted_patch_and_leaves_the_model_alone(name, detector, planted):
    images, masks = planted
    detector.model.train()
    before = {key: value.clone() for key, value in detector.model.state_dict().items()}
    maps = method_maps(detector, images, name)
    assert maps.shape == masks.shape
    assert maps.dtype == np.float32
    found = inside(maps, masks)
    # Regions of a face are larger than the patch: of these only the mass counts.
    least = 1.2 if name == "shapley" else 2
    assert found["mass"].mean() > least * found["chance"].mean()
    if name != "shapley":
        assert found["pointing"].mean() >= 0.5
    assert detector.model.training
    assert all(
        parameter.grad is None and parameter.requires_grad for parameter in detector.model.parameters()
    )
    after = detector.model.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert name in ("signed_cam", "integrated_gradients", "occlusion", "lime", "shapley") or maps.min() >= 0


@pytest.mark.parametrize(("name", "library"), [("grad_cam", GradCAM), ("grad_cam_pp", GradCAMPlusPlus)])
def test_cams_are_those_of_the_library(name, library, detector, planted):
    images, _ = planted
    cam = library(model=detector.model, target_layers=[detector.layer])
    wanted = cam(images, [lambda logits: logits[1] - logits[0]] * len(images))
    assert np.allclose(method_maps(detector, images, name), wanted, atol=1e-6)


@pytest.mark.parametrize(("name", "layer"), [("resnet18", "layer4"), ("mobilenet_v3_small", "features")])
def test_cams_of_torchvision_s_networks_are_those_of_the_library(name, layer):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, num_classes=2).eval()
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    module = getattr(model, layer)
    for method, library in (("grad_cam", GradCAM), ("grad_cam_pp", GradCAMPlusPlus)):
        cam = library(model=model, target_layers=[module])
        wanted = cam(images.clone(), [lambda logits: logits[1] - logits[0]] * 2)
        assert np.allclose(method_maps(Explained(model, module), images, method), wanted, atol=1e-5)


def test_signed_cam_above_zero_is_grad_cam(planted):
    images, _ = planted
    torch.manual_seed(3)
    block = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.Tanh())
    model = nn.Sequential(block, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    signed = method_maps(Explained(model, block), images, "signed_cam")
    assert signed.min() < 0 < signed.max()
    # Enlarging and cutting at 0 do not commute, so that cells alone are compared.
    cut = np.maximum(signed, 0)
    cam = method_maps(Explained(model, block), images, "grad_cam")
    for ours, theirs in zip(cut, cam, strict=True):
        assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95


def test_integrated_gradients_of_a_linear_detector_are_weight_times_difference(planted):
    images, _ = planted
    model = Linear()
    maps = method_maps(Explained(model), images, "integrated_gradients")
    assert np.allclose(maps, model.parts(images), atol=1e-5)


def test_shapley_values_of_a_linear_detector_are_what_each_region_adds(planted):
    images, _ = planted
    model = Linear()
    maps = method_maps(Explained(model), images, "shapley")
    parts = (
        ((images - blurred(images)) * model.weight.detach().view(3, SIZE, SIZE)).sum(dim=1).double().numpy()
    )
    regions = face_regions(SIZE)
    for number in range(len(REGIONS)):
        here = regions == number
        assert np.allclose(maps[:, here].sum(axis=1), parts[:, here].sum(axis=1), atol=1e-4)


def test_lime_of_a_linear_detector_orders_cells_as_they_count(planted):
    images, _ = planted
    model = Linear()
    maps = method_maps(Explained(model), images[:2], "lime")
    parts = (
        ((images - blurred(images)) * model.weight.detach().view(3, SIZE, SIZE)).sum(dim=1).double().numpy()
    )
    cells = grid(SIZE)
    for one, part in zip(maps, parts, strict=False):
        wanted = np.bincount(cells.ravel(), part.ravel())
        found = np.bincount(cells.ravel(), one.ravel()) / np.bincount(cells.ravel())
        assert np.corrcoef(wanted, found)[0, 1] > 0.98


def test_occlusion_is_captum_s(detector, planted):
    images, _ = planted
    side = SIZE // 8
    with torch.no_grad():
        wanted = Occlusion(detector.margin).attribute(
            images[:2], (3, side, side), (3, side // 2, side // 2), baselines=blurred(images[:2])
        )
    found = method_maps(detector, images[:2], "occlusion")
    assert np.allclose(found, wanted.mean(dim=1).numpy(), atol=1e-5 * np.abs(found).max())


def test_what_maps_and_tests_cost_is_what_was_said(detector, planted):
    """The time that is left follows from it."""
    images, names, counted = planted[0], ("grad_cam", "occlusion"), []
    counting = replace(detector, count=counted.append)
    others = checks.other_orders(counting, images)
    for name in names:
        maps = method_maps(counting, images, name)
        found = check_method(counting, images, name, maps, others=others)
        alone = order_gains(detector, images, maps)
        assert (found.deletion, found.insertion) == alone  # shared orders change nothing
    assert sum(counted) == checks.check_passes(detector, names, len(images))


def test_what_a_method_promises_adds_up(detector, planted):
    images, _ = planted
    for name in ("integrated_gradients", "shapley"):
        owed = detector.margins(images) - detector.margins(blurred(images))
        found = method_maps(detector, images, name).astype(np.float64).sum(axis=(1, 2))
        # A path of 32 steps is an approximation where the detector bends; all coalitions are exact.
        assert np.allclose(found, owed, rtol=0.05 if name == "integrated_gradients" else 1e-5)


def test_a_map_that_finds_what_matters_passes_every_test(detector, planted):
    images, _ = planted
    found = check_method(detector, images, "occlusion", method_maps(detector, images, "occlusion"))
    assert found.failed == []
    assert found.deletion["random"].ci[0] > 0
    assert found.insertion["random"].ci[0] > 0
    assert found.shuffled[-1] < checks.UNMOVED
    assert len(found.shuffled) == len(checks.SHUFFLED)


def test_blank_maps_are_told():
    """A network's layer after its last branch gave maps that were zero everywhere, and nobody noticed."""
    maps = np.zeros((3, SIZE, SIZE), np.float32)
    maps[1] = 0.3
    maps[2, 4, 4] = 1
    assert is_blank(maps).tolist() == [True, True, False]
    model = Checkers()
    found = check_method(Explained(model), torch.rand(3, 3, SIZE, SIZE), "saliency", maps[[0, 0, 1]])
    assert found.failed == ["every map is blank"]
    assert found.is_failed


def test_the_map_of_another_picture_is_told(detector, planted):
    """A stored map of the first picture was shown beside every other."""
    images, _ = planted
    maps = method_maps(detector, images, "occlusion")
    stale = np.repeat(maps[:1], len(maps), axis=0)
    assert likeness(stale) == 1.0
    found = check_method(detector, images, "occlusion", stale)
    assert found.failed[0].startswith("the same map for every picture")


def test_a_map_of_edges_alone_is_told(detector, planted, monkeypatch):
    """It looks like an explanation, and is the picture's own: no weight of the detector matters."""
    images, _ = planted

    def edges(explained, pictures):
        return (pictures - blurred(pictures)).abs().mean(dim=1)

    monkeypatch.setattr(methods, "METHODS", METHODS | {"edges": Method("Edges", edges, "calls", 1)})
    monkeypatch.setattr(checks, "METHODS", methods.METHODS)
    found = check_method(detector, images, "edges", method_maps(detector, images, "edges"))
    assert any("a detector that knows nothing gives the same map" in reason for reason in found.failed)
    assert found.is_failed


def test_a_map_by_lot_is_no_better_than_a_random_order(detector, planted):
    images, _ = planted
    maps = np.random.default_rng(1).random((len(images), SIZE, SIZE), dtype=np.float32)
    deletion, _ = order_gains(detector, images, maps)
    assert deletion["random"].ci[0] <= 0 <= deletion["random"].ci[1]


def test_one_picture_cannot_show_that_a_map_finds_what_matters(detector, planted):
    images = planted[0][:1]
    found = check_method(detector, images, "occlusion", method_maps(detector, images, "occlusion"))
    assert np.isnan(found.deletion["random"].ci).all()
    assert found.failed == ["one picture: whether the map finds what matters cannot be tested"]


def test_shares_inside_are_those_of_the_place_for_a_map_by_lot():
    rng = np.random.default_rng(0)
    masks = np.zeros((400, 16, 16), bool)
    masks[:, :4, :8] = True
    found = inside(rng.random((400, 16, 16), dtype=np.float32), masks)
    for name in ("pointing", "mass", "rank"):
        assert found[name].mean() == pytest.approx(32 / 256, abs=0.05)
    perfect = inside(masks.astype(np.float32), masks)
    assert all(perfect[name].min() == 1 for name in ("pointing", "mass", "rank"))


def test_shares_inside_are_those_that_quantus_defines():
    """Pointing game, relevance mass and relevance rank accuracy, written down from their definitions."""
    rng = np.random.default_rng(4)
    maps = rng.normal(size=(20, 12, 12)).astype(np.float32)
    masks = rng.random((20, 12, 12)) < rng.uniform(0.1, 0.6, (20, 1, 1))
    found = inside(maps, masks)
    for place, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        pixels = {(y, x): float(one[y, x]) for y in range(12) for x in range(12)}
        ranked = sorted(pixels, key=lambda at: -pixels[at])
        assert found["pointing"][place] == mask[ranked[0]]
        top = ranked[: int(mask.sum())]
        assert found["rank"][place] == pytest.approx(sum(bool(mask[at]) for at in top) / len(top))
        positive = {at: max(value, 0) for at, value in pixels.items()}
        held = sum(value for at, value in positive.items() if mask[at])
        assert found["mass"][place] == pytest.approx(held / sum(positive.values()))


def test_deletion_is_the_mean_margin_along_the_order(detector, planted):
    """Pixel flipping by hand: the cells of the highest values are blurred first."""
    images, _ = planted
    maps = np.random.default_rng(2).random((2, SIZE, SIZE), dtype=np.float32)
    deletion, _ = order_gains(detector, images[:2], maps)
    picture, side = images[0], checks.CELLS
    cells, means = grid(SIZE, side), checks.cell_means(maps)[0]

    def area(order, is_deletion):
        margins = []
        for share in checks.SHARES:
            gone = np.isin(cells, order[: round(share * side * side)])
            blurs = gone if is_deletion else ~gone
            changed = torch.where(torch.from_numpy(blurs), blurred(picture[None])[0], picture)
            margins.append(float(detector.margins(changed[None])[0]))
        return np.mean(margins)

    middle = np.argsort(-checks.cell_means(checks.centre_map(SIZE)[None])[0], kind="stable")
    own = np.argsort(-means, kind="stable")
    single = order_gains(detector, images[:1], maps[:1])
    assert single[0]["centre"].value == pytest.approx(area(middle, True) - area(own, True), abs=1e-6)
    assert single[1]["centre"].value == pytest.approx(area(own, False) - area(middle, False), abs=1e-6)
    assert deletion["centre"].ci[0] <= deletion["centre"].value <= deletion["centre"].ci[1]


def test_refusals_name_what_can_be_had(detector, planted):
    images, _ = planted
    with pytest.raises(InputError, match="is 'occlusion' meant"):
        method_maps(detector, images, "oclusion")
    with pytest.raises(InputError, match=r"needs a detector with gradients.*occlusion, lime, shapley"):
        method_maps(Explained(lambda pictures: pictures.mean(dim=(2, 3))[:, :2]), images, "saliency")
    with pytest.raises(InputError, match="a cam_layer"):
        method_maps(Explained(detector.model), images, "grad_cam")


@pytest.mark.parametrize("size_px", [32, 128, 256])
def test_regions_lie_where_the_points_of_a_face_are(size_px):
    regions = face_regions(size_px)
    named = [REGIONS[regions[int(y), int(x)]] for x, y in template(size_px)]
    assert named == ["eyes", "eyes", "nose", "mouth", "mouth"]
    assert set(np.unique(regions)) == set(range(len(REGIONS)))
    assert REGIONS[regions[-1, 0]] == "background"


@pytest.mark.parametrize("scale", [1.0, 1.3, 1.6])
def test_the_room_around_a_face_is_read_from_points_and_matrix(scale):
    """Regions were those of 1.3 whatever crops were cut with."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(5):
        points = template(100, 1.0) @ np.array([[0.8, 0.3], [-0.3, 0.8]]) * rng.uniform(1, 3) + rng.normal(
            0, 9, 2
        )
        matrix = similarity_matrix(points, 128, scale)
        rows.append([*points.ravel(), *matrix.ravel()])
    table = pd.DataFrame(rows, columns=[*POINTS, *MATRIX])
    assert crop_scale(table, 128) == pytest.approx(scale, abs=1e-6)
    assert crop_scale(table.drop(columns="m00"), 128) == 1.3
    regions = face_regions(128, scale)
    named = [REGIONS[regions[int(y), int(x)]] for x, y in template(128, scale)]
    assert named == ["eyes", "eyes", "nose", "mouth", "mouth"]


def test_shares_of_regions_are_those_of_the_map():
    regions = face_regions(64)
    maps = np.stack([regions == REGIONS.index("mouth"), regions == REGIONS.index("nose")]).astype(np.float32)
    found = {one["region"]: one for one in region_shares(maps)}
    assert [found[name]["share"] for name in ("mouth", "nose")] == pytest.approx([0.5, 0.5])
    assert sum(one["area"] for one in found.values()) == pytest.approx(1)
    even = region_shares(np.ones((2, 64, 64), np.float32))
    assert all(one["density"] == pytest.approx(1) for one in even)
