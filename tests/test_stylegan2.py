import numpy as np
import pytest
import torch

from unmasked.generation.config import Network
from unmasked.generation.stylegan2 import Generator, MappingNetwork, modulated_conv, sample, to_bytes
from unmasked.training.residual import (
    Critic,
    EqualisedConv,
    append_spread,
    double,
    smooth,
    smoothing,
    upfirdn,
)


@pytest.fixture
def known(shared):
    arrays = np.load(shared / "reference" / "stylegan2_reference.npz")
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def same(found, wanted):
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=0, atol=1e-10)


def test_the_filter_is_that_of_the_reference(known):
    x, kernel = known["upfirdn_x"], known["upfirdn_f"]
    same(smoothing(None, torch.float64), kernel)
    same(upfirdn(x, torch.ones(1, 1).double()), known["upfirdn_identity"])
    same(upfirdn(x, kernel, padding=(2, 1, 2, 1)), known["upfirdn_blur"])
    same(upfirdn(x, kernel, up=2, padding=(2, 1, 2, 1), gain=4), known["upfirdn_up2_rgb"])
    same(double(x), known["upfirdn_up2_rgb"])
    same(smooth(x, 1, stride=2), known["upfirdn_down2"])
    asymmetric = known["upfirdn_f_asymmetric"]
    found = upfirdn(x, asymmetric, up=2, down=3, padding=(3, 0, -1, 2), gain=1.5)
    same(found, known["upfirdn_asym"])


def test_modulated_convolutions_are_those_of_the_reference(known):
    x, weight, style = known["mod_x"], known["mod_w"], known["mod_s"]
    same(modulated_conv(x, weight, style), known["mod_same"])
    same(modulated_conv(x, weight, style, demodulate=False), known["mod_same_nodemod"])
    same(modulated_conv(x, weight, style, up=True), known["mod_up"])
    same(modulated_conv(x, weight.flip(2, 3), style, up=True), known["mod_up_mirrored_kernel"])
    same(modulated_conv(x, known["mod_w1"][:3], style, demodulate=False), known["mod_torgb"])


def test_the_scaled_input_is_the_scaled_weight_of_the_paper():
    """Equations 1 and 3: a convolution of its own for each image."""
    random = torch.Generator().manual_seed(0)
    x, weight, style = (
        torch.randn(*shape, generator=random, dtype=torch.float64)
        for shape in ((3, 4, 5, 5), (2, 4, 3, 3), (3, 4))
    )
    found = modulated_conv(x, weight, style)
    for image, scales, result in zip(x, style, found, strict=True):
        own = weight / 6 * scales[:, None, None]
        own = own / (own.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        same(torch.nn.functional.conv2d(image[None], own, padding=1)[0], result)


def down(x, weight, kernel):
    conv = EqualisedConv(*weight.shape[1::-1], kernel, bias=False, down=True).double()
    conv.weight.data = weight
    return conv(x).detach()


def test_the_network_that_judges_is_that_of_the_reference(known):
    x, weight = known["down_x"], known["mod_w"]
    same(down(x, weight, 3), known["down_3x3"])
    same(down(x, known["mod_w1"][:3], 1), known["down_1x1"])
    for size, rows in ((4, 8), (8, 8), (4, 3)):
        name = "mbstd_n3_group4" if rows == 3 else f"mbstd_group{size}"
        same(append_spread(known["mbstd_x"][:rows], size), known[name])


def test_the_mapping_is_that_of_the_reference(known):
    mapping = MappingNetwork(6, 2).double()
    for layer, weight, bias in zip(mapping.layers, known["map_w"], known["map_b"], strict=True):
        layer.weight.data, layer.bias.data = weight, bias
    same(mapping(known["map_z"]).detach(), known["map_out"])


def size(network):
    return sum(value.numel() for value in network.parameters())


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ((32768, 512, 512, 8), {256: (30034338, 28864129)}),
        ((16384, 512, 512, 8), {128: (24525213, 23882369)}),
        ((16384, 512, 512, 2), {64: (22243608, 23407361)}),
        ((8192, 256, 256, 2), {64: (5567640, 5854593), 128: (5744349, 5973313), 256: (5805058, 6002977)}),
        ((4096, 128, 128, 2), {64: (1395288, 1465025), 256: (1454866, 1502097)}),
        ((2048, 64, 64, 2), {64: (350520, 366945), 128: (361677, 374353), 256: (365530, 376201)}),
    ],
)
def test_both_networks_have_as_many_numbers_as_the_papers(settings, counts):
    base, most, w_dim, layers = settings
    for side, (generator, critic) in counts.items():
        network = Network(size_px=side, base=base, most=most, w_dim=w_dim, mapping_layers=layers)
        assert size(Generator(network)) == generator
        assert size(Critic(side, base, most)) == critic


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    generator = Generator(Network(size_px=32, base=64, most=8, w_dim=8)).eval()
    generator.settle()
    return generator


def test_an_image_depends_on_seed_and_place_and_not_on_those_beside_it(small):
    for conv in (small.synthesis.first, *small.synthesis.convs):
        conv.noise.data += 1
    images = sample(small, range(4), 7)
    assert images.shape == (4, 3, 32, 32)
    assert torch.equal(sample(small, [2], 7)[0], images[2])
    assert not torch.equal(sample(small, [2], 8)[0], images[2])


def test_truncation_goes_to_the_mean_style_and_0_shows_one_image(small):
    far, near = (sample(small, range(6), 1, psi).float() for psi in (1.0, 0.3))
    assert near.std(0).mean() < far.std(0).mean()
    torch.manual_seed(1)
    z = torch.randn(2, 8)
    torch.testing.assert_close(small.styles(z)[:, 0], small.mapping(z))
    one, other = small(z, 0.0, [torch.Generator().manual_seed(0) for _ in z])
    torch.testing.assert_close(one, other)


def test_every_layer_has_weights_that_learn(small):
    """Of the last toRGB too, which a wrong place among the styles would leave out."""
    small.zero_grad()
    w = small.styles(torch.randn(2, 8)).detach().clone().requires_grad_()
    small.synthesis(w).square().sum().backward()
    assert (w.grad.abs().sum((0, 2)) > 0).all()
    assert all(p.grad is not None for p in small.synthesis.parameters())
    small.zero_grad()


def test_images_are_bytes_by_the_rule_of_the_reals():
    assert to_bytes(torch.tensor([-3.0, -1, 0, 1, 2])).tolist() == [0, 0, 128, 255, 255]


def test_in_evaluation_a_verdict_does_not_depend_on_the_batch():
    torch.manual_seed(0)
    critic, images = Critic(16, 64, 8), torch.randn(8, 3, 16, 16)
    together = critic.realness(images)
    assert not torch.allclose(together[:1], critic.realness(images[:1]))  # in training a batch is seen as one
    critic.eval()
    logits = critic(images)
    torch.testing.assert_close(logits[:1], critic(images[:1]))
    torch.testing.assert_close(logits.softmax(1)[:, 1], (-critic.realness(images)).sigmoid())
    assert critic.spread > 0
