import json
import warnings

import numpy as np
import pytest
import torch
from reference_weights import fill_by_name

from unmasked.datasets.errors import InputError
from unmasked.generation import inception


@pytest.fixture(scope="module")
def model():
    return fill_by_name(inception.build(), 20262)


@pytest.fixture
def reference(shared):
    return np.load(shared / "reference" / "fid_inception_reference.npz")


def test_names_and_shapes_are_those_of_the_public_files(model, shared):
    wanted = json.loads((shared / "reference" / "fid_inception_state_dict.json").read_text())
    assert [[name, list(v.shape)] for name, v in model.state_dict().items()] == [row[:2] for row in wanted]


def test_features_are_those_of_the_reference_at_every_depth(model, reference):
    images = np.random.default_rng([20262, 7]).uniform(-1, 1, (2, 3, 299, 299)).astype(np.float32)[:1]
    seen = {}
    for place, layer in enumerate((model.maxpool1, model.maxpool2, model.Mixed_6e)):
        layer.register_forward_hook(lambda _, __, out, place=place: seen.update({place: out.numpy()}))
    extractor = inception.without_head(model)
    with torch.inference_mode():
        pool3 = extractor(torch.from_numpy(images))
        for place, step in enumerate((8, 16, 64)):
            side = (16, 8, 4)[place]
            every = seen[place][:, ::step, ::side, ::side]
            np.testing.assert_allclose(every, reference[f"block{place}_every"][:1], atol=1e-5, rtol=1e-5)
        np.testing.assert_allclose(pool3.numpy(), reference["pool3"][:1], atol=1e-5)
        far = np.abs(pool3.numpy() - reference["unpatched_torchvision_pool3"][:1]).max()
        assert far > 0.05  # torchvision's own forward is another network
        pictures = torch.from_numpy(reference["uint8_images"][1:]).permute(0, 3, 1, 2)
        for how, name in (
            ("bilinear", "pytorch_fid"),
            ("antialias", "torchmetrics_antialias"),
            ("bicubic", "clean_fid"),
        ):
            found = extractor(inception.to_input(pictures, how)).numpy()
            np.testing.assert_allclose(found, reference[f"pool3_{name}"][1:], atol=1e-5, err_msg=how)


def test_files_that_run_code_or_are_of_another_network_are_refused(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, and clean-fid's file is one of it
        scripted = torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2))
    scripted.save(tmp_path / "inception-2015-12-05.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pth")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    for name, words in (
        ("inception-2015-12-05.pt", "TorchScript"),
        ("whole.pth", "pickle"),
        ("other.pth", "does not fit FID's Inception network: 566 of 566 weights are absent"),
        ("absent.pth", "does not exist"),
    ):
        with pytest.raises(InputError, match=words) as raised:
            inception.load(tmp_path / name)
        assert "\n" not in str(raised.value)
