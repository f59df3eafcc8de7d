"""Runs that share a folder: shards side by side, engines, and what killed runs leave behind."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pandas as pd
import pytest
import train_fakes
from hypothesis import given
from hypothesis import strategies as st
from preprocessing_fakes import BLUE, SquareDetector, manifest_of, square_frame, write_video
from pydantic import ValidationError
from train_fakes import SMALL, Network, small_config

from unmasked.datasets.errors import InputError
from unmasked.datasets.locks import LOCK
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.preprocessing import ray_pool
from unmasked.preprocessing.claims import PARTIAL, Claim, sweep
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.faces import FACES
from unmasked.preprocessing.parts import Item, is_in_shard
from unmasked.preprocessing.pool import Budget, run_tasks
from unmasked.preprocessing.run import make_checked_worker, preprocess
from unmasked.training import checkpoint

CONFIG = PreprocessConfig(frames_per_video=2, size_px=64, workers=1)


def run(manifest, out, **settings):
    return preprocess(manifest, out, CONFIG.model_copy(update=settings), detector=SquareDetector)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def touched(folder):
    """When each crop and part was written."""
    made = [*(folder / "crops").rglob("*.*"), *(folder / "parts").rglob("*.*")]
    return {path: path.stat().st_mtime_ns for path in made}


@pytest.fixture
def manifest(tmp_path):
    """Six videos and one that is not there."""
    names = [f"{number}.mp4" for number in range(6)]
    for name in names:
        write_video(tmp_path / "in" / name, 3)
    return manifest_of(tmp_path / "in", [*names, "gone.mp4"])


def item(name):
    return Item(("d", name, ""), "/r", f"{name}.mp4", "video", f"d/{name}")


# Shards


@given(st.lists(st.text(min_size=1), max_size=30, unique=True), st.integers(1, 7))
def test_every_video_is_in_exactly_one_shard(names, count):
    shards = [f"{number}/{count}" for number in range(1, count + 1)]
    for name in names:
        assert sum(is_in_shard(item(name), shard) for shard in shards) == 1
        assert is_in_shard(item(name), "")


def test_shards_are_of_about_one_size():
    sizes = [sum(is_in_shard(item(f"{n:03d}"), f"{shard}/4") for n in range(1000)) for shard in (1, 2, 3, 4)]
    assert sum(sizes) == 1000
    assert max(sizes) - min(sizes) < 80  # four standard deviations


@pytest.mark.parametrize("shard", ["0/4", "5/4", "4", "1/", "/4", "a/b", "1/2/3", "-1/2", "1 / 2"])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(ValidationError, match="is no shard; give number/count"):
        PreprocessConfig(shard=shard)


def test_shards_put_together_equal_one_run(manifest, tmp_path):
    whole = run(manifest, tmp_path / "whole")
    rows = 0
    for shard in ("2/2", "1/2"):
        faces = run(manifest, tmp_path / "out", shard=shard)
        rows += len(faces)
        assert set(faces["video"]) < set(manifest["video"])
        assert not (tmp_path / "out" / "faces.parquet").exists()
    assert rows == len(whole)
    before = touched(tmp_path / "out")
    run(manifest, tmp_path / "out", merge=True)
    assert touched(tmp_path / "out") == before
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_last_run_without_shard_joins_and_tries_again_what_failed(manifest, tmp_path):
    for shard in ("1/2", "2/2"):
        run(manifest, tmp_path / "out", shard=shard)
    before = touched(tmp_path / "out")
    write_video(tmp_path / "in" / "gone.mp4", 3)
    faces = run(manifest, tmp_path / "out")
    assert faces["status"].tolist() == ["ok"] * 14
    after = touched(tmp_path / "out")
    assert {path.stem for path in before if after[path] != before[path]} == {"gone"}


def test_a_merge_of_what_is_not_all_there_says_what_is_lacking(manifest, tmp_path):
    faces = run(manifest, tmp_path / "out", shard="1/2")
    lacking = 7 - faces["video"].nunique()
    with pytest.raises(InputError, match=rf"{lacking} of 7 videos have not been made.*run their shards"):
        run(manifest, tmp_path / "out", merge=True)
    with pytest.raises(InputError, match="leave shard out"):
        run(manifest, tmp_path / "out", merge=True, shard="1/2")


def test_a_shard_without_videos_is_an_empty_table(manifest, tmp_path):
    only = Item(("squares", "0", ""), "", "", "video", "")
    [other] = [shard for shard in ("1/2", "2/2") if not is_in_shard(only, shard)]
    faces = run(manifest.iloc[:1], tmp_path / "out", shard=other)
    assert faces.empty
    assert set(faces.columns) == set(FACES.columns)


SCRIPT = """
import pandas as pd
from pathlib import Path
from preprocessing_fakes import SlowSquareDetector
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.run import preprocess
config = PreprocessConfig(frames_per_video=2, size_px=64, workers=1, shard={shard!r}, engine={engine!r})
manifest = pd.read_csv({manifest!r}, dtype={{"video": str}})
preprocess(manifest, Path({out!r}), config, detector=SlowSquareDetector)
"""


def start(manifest, out, *, shard="", engine="local"):
    path = out.parent / f"{shard.replace('/', '-')}.csv"
    manifest.to_csv(path, index=False)
    script = SCRIPT.format(shard=shard, engine=engine, manifest=str(path), out=str(out))
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.Popen([sys.executable, "-c", script], env=environment, cwd=out.parent)


@pytest.mark.slow
def test_shards_at_the_same_time_do_not_touch_each_others_work(manifest, tmp_path):
    shards = [start(manifest, tmp_path / "out", shard=f"{number}/3") for number in (1, 2, 3)]
    assert [shard.wait(120) for shard in shards] == [0, 0, 0]
    assert start(manifest, tmp_path / "whole").wait(120) == 0
    assert start(manifest, tmp_path / "out").wait(120) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


# Claims


@pytest.mark.parametrize(
    ("first", "second"), [("", ""), ("", "1/2"), ("1/2", ""), ("1/2", "1/2"), ("1/2", "2/3")]
)
def test_two_runs_on_the_same_videos_are_refused(tmp_path, first, second):
    claim = Claim(tmp_path, first)
    with pytest.raises(InputError, match=f"another run .*process {os.getpid()} on .*wait until it has ended"):
        Claim(tmp_path, second)
    claim.close()
    Claim(tmp_path, second).close()
    assert not (tmp_path / PARTIAL).exists()


def test_what_killed_runs_left_is_removed_and_live_runs_are_left_alone(tmp_path):
    alive = Claim(tmp_path, "1/2")
    (alive.folder / "crop.png").write_bytes(b"half")
    dead = tmp_path / PARTIAL / "dead"
    dead.mkdir()
    (dead / LOCK).write_text('{"shard": "2/2", "host": "h", "process": 1}')
    (tmp_path / PARTIAL / "0a").mkdir()  # killed before it made its lock
    (tmp_path / PARTIAL / "file").write_text("of no run")
    [found] = sweep(tmp_path)
    assert found["shard"] == "1/2"
    # What no run is called is somebody else's.
    assert {path.name for path in (tmp_path / PARTIAL).iterdir()} == {alive.folder.name, "file"}
    assert (alive.folder / "crop.png").exists()
    alive.close()


def test_a_lost_crop_is_made_again(manifest, tmp_path):
    faces = run(manifest, tmp_path / "out")
    before = contents(tmp_path / "out")
    (tmp_path / "out" / faces["crop"].iloc[3]).unlink()
    run(manifest, tmp_path / "out")
    assert contents(tmp_path / "out") == before


# Budgets


def eat(task):
    if task == "greedy":
        eaten = [bytearray(b"x" * 10**7) for _ in range(200)]
        time.sleep(30)
        return str(len(eaten))
    return task


def make_eater():
    return eat


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is watched where there is /proc")
def test_a_task_that_eats_memory_is_killed_and_the_others_are_not():
    budget = Budget(time_s=60, memory_bytes=10**9)
    outcomes = {o.task: o for o in run_tasks(["a", "greedy", "b"], make_eater, workers=1, budget=budget)}
    assert outcomes["greedy"].status == "over_budget"
    assert "more memory than the budget of 0.93" in outcomes["greedy"].reason
    assert [outcomes[name].result for name in "ab"] == ["a", "b"]


def test_another_machines_versions_are_refused():
    with pytest.raises(InputError, match=r"would make other crops.*install the same versions"):
        make_checked_worker(CONFIG, None, "of another recipe")


# Ray


@pytest.mark.parametrize("address", ["", "10.0.0.1:6379"])
def test_a_cluster_of_our_own_listens_on_loopback_alone(monkeypatch, address):
    # Its ports were open to the whole network. Measured on Ray 2.60: with this all are bound to 127.0.0.1.
    asked = {}

    class Ray(types.ModuleType):
        is_initialized = staticmethod(lambda: False)
        cluster_resources = staticmethod(dict)
        shutdown = staticmethod(lambda: None)

        @staticmethod
        def init(**settings):
            asked.update(settings, loopback=os.environ.get("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"))
            signal.signal(signal.SIGTERM, lambda *_: None)  # as Ray does

    monkeypatch.setitem(sys.modules, "ray", Ray("ray"))
    monkeypatch.setattr(ray_pool, "_dispatch", lambda *_: iter(()))
    for name, value in {"RAY_ADDRESS": address, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": ""}.items():
        monkeypatch.setenv(name, value)
        if not value:
            monkeypatch.delenv(name)
    assert not list(ray_pool.run_tasks_on_ray([1], list, workers=1, budget=Budget()))
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if address:
        assert (asked["address"], asked["loopback"]) == (None, None)  # Ray takes RAY_ADDRESS itself
    else:
        assert (asked["address"], asked["include_dashboard"], asked["loopback"]) == ("local", False, "0")


def test_a_missing_ray_is_named(manifest, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install unmasked\[ray\]"):
        run(manifest, tmp_path / "out", engine="ray")


def test_a_machine_without_the_folder_is_refused(tmp_path):
    supervisor = ray_pool.Supervisor(make_eater, Budget(), str(tmp_path / "elsewhere"))
    with pytest.raises(InputError, match="storage that all machines see"):
        supervisor.start()


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same_table_and_crops_and_scores(tmp_path):
    """A real local cluster, with a video that hangs and one that is missing."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'unmasked[ray]'")
    names = [f"{number}.mp4" for number in range(5)]
    for number, name in enumerate(names):
        colour = BLUE if number == 1 else (20 + 25 * number,) * 3
        write_video(tmp_path / name, 3, draw=lambda index, colour=colour: square_frame(index, colour=colour))
    manifest = manifest_of(tmp_path, [*names, "gone.mp4"])
    card = {
        "method_classes": ["real", "fake"],
        "size_px": 32,
        "config": small_config().model_dump(mode="json"),
    }
    checkpoint.save(SMALL, Network(), tmp_path / "run", card)
    script = RAY_SCRIPT.format(
        manifest=str(tmp_path / "manifest.csv"), out=str(tmp_path), detector=train_fakes.__file__
    )
    manifest.to_csv(tmp_path / "manifest.csv", index=False)
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    subprocess.run([sys.executable, "-c", script], env=environment, cwd=tmp_path, check=True, timeout=300)
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    statuses = FACES.read(tmp_path / "ray" / "faces.parquet").groupby("video")["status"].first().to_dict()
    assert statuses == {**dict.fromkeys("0234", "ok"), "1": "over_budget", "gone": "missing_file"}
    here, there = (PREDICTIONS.read(tmp_path / f"{engine}.parquet") for engine in ("local", "ray"))
    pd.testing.assert_frame_equal(here, there, atol=1e-6)
    assert len(here) == 8
    assert here["score"].nunique() >= 4


RAY_SCRIPT = """
import os
import pandas as pd
from pathlib import Path
from preprocessing_fakes import HangingDetector
from unmasked.app import ray_scores
from unmasked.app.verbs import predict
from unmasked.preprocessing.config import PreprocessConfig
from unmasked.preprocessing.run import preprocess
if __name__ == "__main__":
    import ray
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, log_to_driver=False)
    manifest = pd.read_csv({manifest!r}, dtype={{"video": str}})
    for engine in ("local", "ray"):
        config = PreprocessConfig(frames_per_video=2, size_px=64, workers=2, budget_s=3.0, engine=engine)
        preprocess(manifest, Path({out!r}) / engine, config, detector=HangingDetector)
    ray_scores.BATCHES = 1
    for engine in ("local", "ray"):
        given = {{"detector": {detector!r}, "splits": ("test",), "batch_size": 3, "engine": engine}}
        predict.run(predict.Config(
            checkpoint="run", faces="local/faces.parquet", out=engine + ".parquet", workers=2, **given
        ))
    assert ray.is_initialized()  # it was ours before
    ray.shutdown()
"""
