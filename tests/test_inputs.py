"""What commands read is looked at first: which names are understood, and what is said of absent files."""

import pytest

from unmasked.app.inputs import check_inputs
from unmasked.app.verbs.predict import Config
from unmasked.datasets.errors import InputError


@pytest.fixture
def fitted(tmp_path):
    """A run of a detector without gradients: its file is no .safetensors."""
    (tmp_path / "detector.skops").touch()
    (tmp_path / "detector.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("name", ["", "detector.skops", "detector.json", "detector.safetensors"])
def test_checkpoint_is_found_by_its_folder_or_a_file_of_it(fitted, name):
    """README's detector.safetensors was refused where training had written detector.skops."""
    check_inputs(checkpoint=fitted / name)


def test_absent_checkpoint_is_answered_with_the_one_that_lies_there(fitted, tmp_path):
    with pytest.raises(InputError, match=r"best\.safetensors does not exist; .* holds detector\.skops: give"):
        check_inputs(checkpoint=fitted / "best.safetensors")
    with pytest.raises(InputError, match=r"nothere does not exist; give the folder that `unmasked train`"):
        check_inputs(checkpoint=tmp_path / "nothere")
    (fitted / "detector.json").unlink()
    with pytest.raises(
        InputError, match=r"holds detector\.skops: give that with its detector\.json beside it"
    ):
        check_inputs(checkpoint=fitted)


def test_all_that_is_absent_is_said_at_once(tmp_path):
    with pytest.raises(InputError, match=r"checkpoint=.* and faces=.* do not exist; .*; .*or its folder"):
        check_inputs(checkpoint=tmp_path / "nothere", faces=tmp_path / "nothere.parquet")


def test_faces_may_be_the_folder(tmp_path):
    """`audit` and `join` took it, and `predict` refused it."""
    given = Config(checkpoint=tmp_path, faces=tmp_path)
    assert given.faces == tmp_path / "faces.parquet"
    assert Config(checkpoint=tmp_path, faces=tmp_path / "a.csv").faces == tmp_path / "a.csv"
