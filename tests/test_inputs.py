"""What commands read is looked at first: which names are understood, and what is said of absent files."""

import subprocess
import sys

import numpy as np
import pytest
from ucf_fakes import write_faces

from unmasked.app.inputs import check_inputs, training_faces
from unmasked.app.verbs.predict import Config
from unmasked.datasets.errors import InputError
from unmasked.preprocessing.faces import FACES


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"split": "test"}, r"the faces table has test\..*`unmasked scan … split_seed=0` makes both"),
        ({"split": "test", "label": np.nan}, r"none of the \d+ crops has a label; training needs reals and"),
    ],
)
def test_table_without_training_rows_is_told_the_way_out(tmp_path, change, said):
    """It said "the faces table has ." where no file had a label."""
    table = write_faces(tmp_path, {"train": 1}, frames=2, size_px=8).assign(**change)
    FACES.write(FACES.validate(table), tmp_path / "faces.parquet")
    with pytest.raises(InputError, match=said):
        training_faces(tmp_path / "faces.parquet", ())


def test_train_looks_at_its_table_before_it_imports_a_detector(tmp_path):
    """A missing table was named after 19 seconds of imports."""
    script = (
        "import sys; from pathlib import Path; from unmasked.app.verbs.train import check_first\n"
        "from unmasked.datasets.errors import InputError\n"
        f"try: check_first(None, ['faces={tmp_path}'])\n"
        "except InputError as error: print(error)\n"
        "print([name for name in ('torch', 'sklearn', 'timm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    said, imported = done.stdout.splitlines()
    assert "faces.parquet does not exist" in said
    assert imported == "[]"


def test_list_of_detectors_does_not_import_what_reads_and_writes_one():
    """skops looks through all of scikit-learn, SciPy and NumPy when it is imported: 2 of 8 seconds."""
    script = (
        "import sys; from unmasked.app.detectors import find, registry; [find(n).config for n in registry()]"
    )
    script += "; print('skops' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
