"""A generator is trained, stopped and resumed, makes images, is judged, and refuses in sentences."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from typer.testing import CliRunner
from ucf_fakes import write_faces

from unmasked.app.cli import app
from unmasked.app.detectors import find, load
from unmasked.datasets.crops import crop_paths
from unmasked.datasets.errors import InputError
from unmasked.datasets.loading import read_crops
from unmasked.datasets.manifest import MANIFEST
from unmasked.datasets.transforms import normalise
from unmasked.generation.config import GeneratorConfig
from unmasked.generation.features import Extractor
from unmasked.generation.judge import discriminator_shares, tell_apart
from unmasked.generation.module import GeneratorModule, gradient_penalty, path_lengths
from unmasked.generation.sample import load as load_generator
from unmasked.generation.train import Stream, real_rows, train
from unmasked.preprocessing.faces import FACES
from unmasked.training.residual import Critic

SMALL = {
    "network": {"size_px": 16, "base": 64, "most": 8, "w_dim": 8},
    "ada": {"images": 200, "every": 2, "target": 0.0},
    "training": {
        "batch": 4,
        "max_steps": 5,
        "r1_every": 2,
        "path_every": 2,
        "look_every_steps": 3,
        "look_images": 8,
        "save_every_steps": 1,
        "log_every_steps": 1,
    },
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    root = tmp_path_factory.mktemp("squares")
    table = write_faces(root, {"train": 3, "val": 1, "test": 2}, frames=2, size_px=16)
    FACES.write(FACES.validate(table), root / "faces.parquet")
    return root / "faces.parquet"


def learn(faces, out, *, resume=False, callbacks=(), **changed):
    config = GeneratorConfig.model_validate(
        {**SMALL, **changed, "training": {**SMALL["training"], **changed.get("training", {})}}
    )
    judge = find("discriminator")
    colours = Extractor("mean colours", "0" * 64, "none", lambda images: images.float().mean((2, 3)))
    return train(
        FACES.read(faces),
        faces.parent,
        config,
        out,
        judge=judge,
        extractor=colours,
        resume=resume,
        callbacks=callbacks,
    )


@pytest.fixture(scope="module")
def run(faces, tmp_path_factory):
    """The folder of five steps."""
    out = tmp_path_factory.mktemp("generator") / "run"
    learn(faces, out)
    return out


def state_of(out):
    return torch.load(out / "checkpoints" / "last.ckpt", weights_only=True)


class Stop(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            raise ConnectionResetError


def test_a_stopped_training_ends_with_the_same_bits(run, faces, tmp_path):
    """Stopped between two adjustments of p; the optimisers' memories are compared, too."""
    out = tmp_path / "parts"
    with pytest.raises(ConnectionResetError):
        learn(faces, out, callbacks=[Stop(3)])
    learn(faces, out, resume=True)
    one, other = state_of(run), state_of(out)
    assert one["global_step"] == other["global_step"] == 5
    assert one["ada"] == other["ada"]
    assert one["ada"]["signs"]
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name]), name
    for first, second in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        for key, memory in first["state"].items():
            assert all(torch.equal(memory[name], second["state"][key][name]) for name in memory)
    same = [(folder / "generator.safetensors").read_bytes() for folder in (run, out)]
    assert same[0] == same[1]


# Two processes of one training; the second is a copy of the first, which has read everything.
PROCESSES = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_generation import learn

os.environ |= dict(TORCHELASTIC_RUN_ID="x", LOCAL_WORLD_SIZE="2", WORLD_SIZE="2", GROUP_RANK="0")
os.environ |= dict(MASTER_ADDR="127.0.0.1", MASTER_PORT="{port}")
other = os.fork()
os.environ["RANK"] = os.environ["LOCAL_RANK"] = "0" if other else "1"
learn(Path({faces!r}), Path({out!r}), training={training!r})
if other:
    raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]))
"""


@pytest.mark.slow
def test_two_processes_learn_what_one_does(faces, tmp_path):
    """Same draws, groups, gradients, p, mean path and mean spread, whoever takes which images."""
    training = {"batch": 8, "max_steps": 3}
    learn(faces, tmp_path / "one", training=training)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    given = {"tests": str(Path(__file__).parent), "faces": str(faces), "out": str(tmp_path / "two")}
    code = PROCESSES.format(port=port, training=training, **given)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (state_of(tmp_path / name) for name in ("one", "two"))
    assert one["ada"] == two["ada"]
    assert one["ada"]["p"] > 0
    for name, value in one["state_dict"].items():
        assert torch.allclose(value, two["state_dict"][name], rtol=0, atol=1e-5), name
    for first, second in zip(one["optimizer_states"], two["optimizer_states"], strict=True):
        for key, memory in first["state"].items():  # without momentum: the last gradient
            slope, other = memory["exp_avg"], second["state"][key]["exp_avg"]
            assert float((slope - other).abs().max()) <= 1e-4 * float(slope.abs().max())


@pytest.mark.parametrize("size_px", [8, 16, 32, 64, 128, 256])
def test_what_a_generator_may_make_its_judge_may_see(size_px):
    """Images of 8 px were allowed to the one and refused to the other."""
    settings = GeneratorConfig(network={"size_px": size_px}).network
    config = find("discriminator").config.model_validate({"model": {"size_px": settings.size_px}})
    assert config.model.size_px == size_px


def test_bfloat16_follows_32_bits(run, faces, tmp_path):
    learn(faces, tmp_path, training={"precision": "bf16-mixed"})
    whole, half = (
        json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (run, tmp_path)
    )
    losses = [name for name in whole if name.startswith("train/")]
    assert len(losses) == 4
    assert [half[name] for name in losses] == pytest.approx([whole[name] for name in losses], rel=0.1)
    assert half["train/path"] == float(torch.tensor(half["train/path"]).bfloat16())  # it was computed in it
    assert {one.dtype for one in state_of(tmp_path)["state_dict"].values()} <= {torch.float32, torch.int64}


def test_it_writes_samples_a_record_and_two_checkpoints(run, faces):
    looks = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [look["step"] for look in looks] == [0, 3, 5]
    reals = real_rows(FACES.read(faces))
    assert {(look["n_reals"], look["n_fakes"]) for look in looks} == {(len(reals), 8)}
    # Videos go to one half as a whole.
    assert looks[0]["floor_n"] in (len(reals) // 2, len(reals) // 3)
    assert looks[0]["frechet"] > 0
    pictures = sorted((run / "samples").iterdir())
    assert [picture.name for picture in pictures] == [f"step-{step:07d}.png" for step in (0, 3, 5)]
    with Image.open(pictures[0]) as picture:
        assert picture.size == (8 * 16, 8 * 16)
    card = json.loads((run / "generator.json").read_text())
    assert (card["step"], card["training_data"]["images"]) == (5, len(reals))
    model, card = load(run / "discriminator")
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 2)
    assert card["architecture"] == "discriminator"
    assert not (run / ".unfinished").exists()


def test_a_training_is_never_thrown_away_or_resumed_otherwise(run, faces):
    with pytest.raises(InputError, match=r"training\.batch"):
        learn(faces, run, resume=True, training={"batch": 2})
    with pytest.raises(InputError, match="nothing to resume"):
        learn(faces, run / "absent", resume=True)


def test_a_stream_passes_over_all_rows_before_any_comes_again_and_can_begin_anywhere():
    batches = list(Stream(5, 2, steps=10, seed=1))
    rows = [draw.row for batch in batches for draw in batch]
    assert [sorted(rows[start : start + 5]) for start in range(0, 20, 5)] == [list(range(5))] * 4
    assert list(Stream(5, 2, steps=10, seed=1, start=7)) == batches[7:]


def test_the_gradient_penalty_is_that_of_a_known_slope():
    images = torch.randn(4, 3, 2, 2, requires_grad=True)
    weight = torch.full((12,), 0.5, requires_grad=True)
    found = gradient_penalty(images.flatten(1) @ weight, images)
    torch.testing.assert_close(found, torch.full((4,), 3.0))  # 12 slopes of 1/2
    found.mean().backward()
    torch.testing.assert_close(weight.grad, torch.ones(12))  # 2 w


def test_p_is_steered_by_verdicts_of_augmented_reals(monkeypatch):
    """Not by those of reals as they are, nor of fakes: its target is of what the network trains on."""
    module = GeneratorModule(Critic(16, 64, 8), GeneratorConfig.model_validate(SMALL))
    monkeypatch.setattr("unmasked.generation.module.augment", lambda images, p, random: -images)
    monkeypatch.setattr(module.critic, "realness", lambda images: images.mean((1, 2, 3)))
    monkeypatch.setattr(module, "_fakes", lambda count: -torch.ones(count, 3, 16, 16))
    monkeypatch.setattr(module, "_step", lambda loss, optimiser: None)
    for _ in range(2):
        module._critic_step(torch.ones(4, 3, 16, 16), None)
    assert module.ada.r_t == -1.0


def test_the_path_length_is_the_mean_over_layers_of_what_a_style_moves():
    styles = torch.randn(2, 3, 4, requires_grad=True)
    images = styles.sum(2)[:, :, None, None].expand(-1, -1, 2, 2)  # a channel a layer
    noise = torch.ones(2, 3, 2, 2)
    # Each of a layer's 4 numbers moves 4 pixels, over sqrt(4) for their number: slope 2, sum of squares 16.
    torch.testing.assert_close(path_lengths(images, styles, noise), torch.full((2,), 4.0))


def test_tables_without_reals_and_crops_that_are_too_small_are_refused(faces, tmp_path):
    table = FACES.read(faces)
    with pytest.raises(InputError, match="no crop of a real face in the split train"):
        real_rows(table[table["label"] == 1])
    with pytest.raises(InputError, match=r"6 of 6 crops are no squares of 32 px .* network\.size_px"):
        learn(faces, tmp_path / "out", network={**SMALL["network"], "size_px": 32})
    assert not (tmp_path / "out").exists()


def unmasked(*given):
    return CliRunner().invoke(app, [str(one) for one in given])


def refused(*given):
    done = unmasked(*given)
    assert done.exit_code == 2, f"{done.output}\n{done.exception!r}"
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_made_images_are_a_dataset_with_the_generators_hash(run, tmp_path):
    out = tmp_path / "made"
    done = unmasked("generate", f"generator={run}", "n=5", "seed=3", f"out={out}")
    assert done.exit_code == 0, done.output
    manifest = MANIFEST.read(out / "manifest.parquet")
    sha = json.loads((run / "generator.json").read_text())["sha256"]
    assert set(manifest["generator"]) == {sha}
    assert set(zip(manifest["method"], manifest["label"], strict=True)) == {("StyleGAN2-ADA", 1)}
    with Image.open(out / manifest["path"].iloc[4]) as image:
        assert (image.text["unmasked.generator"], image.text["unmasked.place"]) == (sha, "4")
        assert "StyleGAN2-ADA" in image.text["Description"]
    # `scan` finds the same from the files alone.
    scanned = tmp_path / "scanned.parquet"
    assert unmasked("scan", f"root={out}", f"out={scanned}").exit_code == 0
    found = MANIFEST.read(scanned)
    assert (len(found), set(found["method"])) == (5, {"StyleGAN2-ADA"})
    again = ("generate", f"generator={run}", f"out={out}")
    assert "give another out=, or overwrite=true" in refused(*again)
    assert len(list(out.rglob("*.png"))) == 5
    one = tmp_path / "one"
    assert unmasked("generate", f"generator={run}", "n=2", "seed=3", f"out={one}").exit_code == 0
    name = MANIFEST.read(one / "manifest.parquet")["path"].iloc[1]
    assert (one / name).read_bytes() == (out / name).read_bytes()
    assert unmasked(*again, "n=2", "overwrite=true").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [".generate.lock", "fake", "manifest.parquet"]
    assert len(list(out.rglob("*.png"))) == len(MANIFEST.read(out / "manifest.parquet")) == 2
    assert (one / name).read_bytes() != (out / name).read_bytes()  # another seed


def test_fakes_that_no_generator_made_are_never_replaced(run, tmp_path):
    """`overwrite=true` in a dataset's folder removed its fake/ and its manifest."""
    image, table = tmp_path / "a" / "fake" / "swap" / "1.png", tmp_path / "b" / "manifest.parquet"
    for path in (image, table):
        path.parent.mkdir(parents=True)
    image.write_bytes(b"x")
    pd.DataFrame({"path": ["1.png"]}).to_parquet(table)
    for path in (image, table):
        out = tmp_path / path.relative_to(tmp_path).parts[0]
        said = refused("generate", f"generator={run}", "n=1", f"out={out}", "overwrite=true")
        assert f"{path} was not made by a generator and would be lost" in said
        assert path.is_file()


def test_a_full_disk_leaves_no_image(run, tmp_path, monkeypatch):
    import errno

    from unmasked.generation import sample

    def fill(files):
        raise OSError(errno.ENOSPC, "No space left on device")  # as Pillow does, without a name

    monkeypatch.setattr(sample, "sync_files", fill)
    out = tmp_path / "full"
    assert f"{out}: No space left" in refused("generate", f"generator={run}", "n=3", f"out={out}")
    assert not [path for path in out.rglob("*") if path.name != ".generate.lock"]


def test_what_is_no_generator_is_named(run, tmp_path):
    """A discriminator's folder was answered with the advice to give its detector.safetensors."""
    for other in (run / "discriminator", tmp_path / "absent", next((run / "samples").iterdir())):
        said = refused("generate", f"generator={other}", f"out={tmp_path / 'out'}")
        assert f"{other} is no generator; give the folder that `unmasked generate train` wrote" in said


def test_the_discriminators_shares_are_of_its_verdicts_without_augmentation(run, faces):
    critic, generator = load(run / "discriminator")[0], load_generator(run)[0]
    found = discriminator_shares(critic, generator, FACES.read(faces), faces.parent, fakes=8)
    assert list(found) == ["train", "val", "test"]
    rows = real_rows(FACES.read(faces), "test")
    images = torch.from_numpy(read_crops(crop_paths(rows["crop"], faces.parent), 16)).permute(0, 3, 1, 2)
    with torch.no_grad():
        called_fake = (critic.realness(normalise(images)) < 0).double().mean()
    assert found["test"]["fpr"] == pytest.approx(float(called_fake))
    assert (found["test"]["reals"], found["test"]["fakes"]) == (len(rows), 8)


def test_a_fresh_classifier_tells_other_laws_apart_and_not_one_law_from_itself():
    random = np.random.default_rng(0)
    a, b = random.normal(size=(300, 4)), random.normal(size=(300, 4))
    low, high = tell_apart(a, b)["balanced_accuracy_ci"]
    assert low < 0.5 < high
    assert tell_apart(a, b + 3)["balanced_accuracy_ci"][0] > 0.9
    # Frames of a video in both halves would be known by heart.
    videos = np.repeat(random.normal(size=(20, 60)), 10, 0)
    units = np.repeat(np.arange(10), 10)
    low, high = tell_apart(videos[:100], videos[100:], units=(units, units))["balanced_accuracy_ci"]
    assert low < 0.75
    assert tell_apart(videos[:100], videos[100:])["balanced_accuracy"] > 0.95


def test_a_distance_says_n_extractor_and_floor(run, faces, tmp_path):
    made, out = tmp_path / "made", tmp_path / "fid"
    unmasked("generate", f"generator={run}", "n=20", f"out={made}")
    (made / "faces").mkdir()  # crops that `preprocess` put there are the same images, not more of them
    shutil.copy(next(made.rglob("*.png")), made / "faces")
    arguments = ("fid", f"a={faces}", "a_rows={label: 0}", f"b={made}", f"extractor={run / 'discriminator'}")
    done = unmasked(*arguments, f"out={out}")
    assert done.exit_code == 0, done.output
    assert "n: a 12 images of" in done.output
    assert "; b 20 of 20" in done.output
    assert "two halves of a, 6 images each" in done.output
    record = json.loads((out / "fid.json").read_text())
    assert record["extractor"] == "Fréchet distance of StyleGAN2 discriminator"
    assert record["kid_ci"][0] <= record["kid"] <= record["kid_ci"][1]
    assert len(list((out / "features").iterdir())) == 2  # made once, by content
    few = refused(*arguments, "a_rows={split: val, label: 0}", f"out={out}")
    assert "fewer than the 8 numbers of a feature" in few
    assert "below_d=true" in few


def test_images_of_other_sizes_and_no_extractor_are_refused(run, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    for side in (8, 16):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(folder / f"{side}.png")
    sides = (f"a={folder}", f"b={folder}", f"out={tmp_path / 'out'}")
    assert "no features were chosen" in refused("fid", *sides)
    assert "size_px=8 to resize" in refused("fid", *sides, f"extractor={run / 'discriminator'}")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "8.png", alone)
    said = refused("fid", f"a={alone}", *sides[1:], f"extractor={run / 'discriminator'}")
    assert f"two images or more of each side; given: {alone / '8.png'}" in said
    empty = tmp_path / "empty"
    empty.mkdir()
    said = refused("fid", f"a={empty}", f"b={folder}", f"extractor={run / 'discriminator'}", sides[2])
    assert "has no image" in said
    pd.DataFrame({"x": [1]}).to_csv(tmp_path / "other.csv", index=False)
    said = refused("fid", f"a={tmp_path / 'other.csv'}", *sides[1:], f"extractor={run / 'discriminator'}")
    assert "has no column path" in said
