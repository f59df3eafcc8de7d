import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.config import keys, load, to_yaml
from unmasked.datasets.errors import InputError


class Optimiser(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    learning_rate: float = Field(2e-4, gt=0, description="step size")
    betas: tuple[float, float] = (0.9, 0.999)


class Study(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(description="what to call it")
    seed: int = 0
    optimiser: Optimiser = Optimiser()


def test_overrides_win_over_the_file(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("name: a\nseed: 1\noptimiser: {learning_rate: 1e-3}\n")
    study = load(Study, file, ["seed=5", "optimiser.betas=[0.5,0.9]"])
    assert study == Study(name="a", seed=5, optimiser=Optimiser(learning_rate=1e-3, betas=(0.5, 0.9)))


def test_exponent_without_a_point_is_a_number():
    assert load(Study, None, ["name=a", "optimiser.learning_rate=2e-4"]).optimiser.learning_rate == 2e-4


def test_interpolation_is_resolved(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("seed: 3\nname: run-${seed}\n")
    assert load(Study, file).name == "run-3"


@pytest.mark.parametrize(
    "value",
    [
        "${oc.env:HOME}",
        "a-${oc.decode:'1'}",
        "${oc.${which}:HOME}",
        "${ oc.env : HOME }",
        "${oc.select:seed}",
    ],
)
def test_value_that_would_read_the_environment_is_refused(tmp_path, value):
    file = tmp_path / "study.yaml"
    file.write_text(f"name: {value!r}\n")
    with pytest.raises(InputError, match="which OmegaConf would compute"):
        load(Study, file)
    with pytest.raises(InputError):
        load(Study, None, [f"name={value}"])


@given(
    st.integers(0, 2**31),
    st.floats(1e-9, 1e9),
    st.text(st.characters(codec="ascii", exclude_characters="$\\")),
)
def test_saved_configuration_reads_back_as_itself(tmp_path_factory, seed, rate, name):
    study = Study(name=name, seed=seed, optimiser=Optimiser(learning_rate=rate))
    file = tmp_path_factory.mktemp("config") / "config.yaml"
    file.write_text(to_yaml(study))
    assert load(Study, file) == study


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["name=a", "sede=1"], "unknown key 'sede'; did you mean 'seed'?"),
        (["name=a", "optimiser.lerning_rate=1"], "did you mean 'optimiser.learning_rate'?"),
        (["seed=1"], "key 'name' is required; give it as name=…"),
        (["name=a", "seed=soon"], "key 'seed' was given 'soon'"),
        (["name=a", "optimiser.learning_rate=0"], "key 'optimiser.learning_rate' was given 0"),
        (["name"], "argument 'name' is not of the form key=value"),
        (["name=a", "optimiser.betas=[1"], "not valid YAML"),
    ],
)
def test_bad_configuration_is_named(overrides, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        load(Study, None, overrides)
    assert "\n" not in str(error.value)


def test_absent_file_lists_the_shipped_ones(tmp_path):
    with pytest.raises(InputError, match=r"does not exist; give a YAML file's path or one of .*ucf/demo"):
        load(Study, tmp_path / "none.yaml")


def test_broken_yaml_is_one_sentence(tmp_path):
    file = tmp_path / "study.yaml"
    file.write_text("name: [a\nseed: }")
    with pytest.raises(InputError, match=r"study\.yaml"):
        load(Study, file)


def test_every_key_is_listed_with_type_and_default():
    assert list(keys(Study)) == [
        ("name", "str", "required", "what to call it"),
        ("seed", "int", "0", ""),
        ("optimiser.learning_rate", "float > 0", "0.0002", "step size"),
        ("optimiser.betas", "[float, float]", "[0.9,0.999]", ""),
    ]
