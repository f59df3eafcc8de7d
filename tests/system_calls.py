"""Commands over hostile files, below strace: which programs, sockets and files they ask the system for.

    python tests/system_calls.py [VERB …]

Asserts nothing; prints a line a verb to standard error, and last a JSON object. A program other than
Python's own, a socket that is no pipe between processes of this machine, a path outside the folder that is
written, made, renamed or removed, or a file that is read and is neither an input, a library nor the system's
own is a finding.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from report_fakes import SOURCE, scored
from test_image_door import write_hostile
from train_fakes import SMALL, Network, small_config
from ucf_fakes import write_faces

from unmasked.evaluation.fitted import Fitted
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.evaluation.thresholds import Threshold
from unmasked.preprocessing.faces import FACES
from unmasked.training import checkpoint

TESTS = Path(__file__).parent
CALLS = (
    *("execve", "execveat", "open", "openat", "openat2", "creat", "connect", "bind", "sendto", "sendmsg"),
    *("socket", "rename", "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir"),
    *("link", "linkat", "symlink", "symlinkat", "truncate", "mknod", "mknodat"),
)
CHANGES = ("creat", "rename", "unlink", "mkdir", "rmdir", "link", "symlink", "truncate", "mknod")
# Not files: what the system offers every process.
DEVICES = ("/dev/null", "/dev/tty", "/dev/shm/")
NASTY_CROPS = ("/etc/passwd", "../../../../../../../../dev/zero", "pipe.png", "link.png", "a\0b", "n" * 3000)
# What libraries start by themselves, whatever is read. NVIDIA's cuda.pathfinder looks for libdl when torch is
# imported; Matplotlib lists the system's fonts once a machine, when it has no cache.
STARTED = ('["/sbin/ldconfig", "-p"]', '["fc-list", "--help"]', '["fc-list", "--format=%{file}')
VERBS = (
    *("scan", "audit", "preprocess", "train", "predict", "explain", "evaluate", "fairness", "report"),
    *("inspect", "verify"),
)
REPOSITORY = TESTS.parent
# What libraries and the system's own functions read, whatever is given.
READABLE = tuple(
    f"{os.path.realpath(path)}/"
    for path in (
        sys.prefix,
        sys.base_prefix,
        REPOSITORY,
        "/usr",
        "/lib",
        "/lib64",
        "/proc",
        "/sys",
        "/dev",
        "/etc/fonts",
    )
)
READ = (
    *("/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/passwd"),
    *("/etc/locale.alias", "/etc/ssl/openssl.cnf"),
)
SECRET = "secret.png"  # a crop that is a link leads to it, and nobody may read it


def has_strace() -> bool:
    """True if strace is installed and may trace here."""
    command = ["strace", "-f", "-o", os.devnull, "-e", "trace=execve", sys.executable, "-c", ""]
    return shutil.which("strace") is not None and subprocess.run(command, capture_output=True).returncode == 0


def write_inputs(folder: Path, port: int) -> None:
    """A dataset with hostile files, faces tables with hostile crops, scores with hostile names."""
    data = folder / "data"
    write_hostile(folder / "hostile", port)
    for name in ("real", "fake"):
        shutil.copytree(folder / "hostile", data / name)
    os.mkfifo(data / "fake" / "pipe.mp4")
    (data / "fake" / "zero.png").symlink_to("/dev/zero")
    (data / "fake" / "passwd.png").symlink_to("/etc/passwd")
    faces = FACES.validate(write_faces(folder, {"train": 2, "val": 2, "test": 2}, frames=1))
    FACES.write(faces, folder / "faces.parquet")
    os.mkfifo(folder / "pipe.png")
    (folder.parent / SECRET).write_bytes((folder / faces["crop"].iloc[0]).read_bytes())
    (folder / "link.png").symlink_to(folder.parent / SECRET)
    for number, crop in enumerate(NASTY_CROPS):
        table = faces.copy()
        table.loc[~table["split"].duplicated(), "crop"] = crop  # one of each split
        table.to_parquet(folder / f"faces{number}.parquet")
    torch.manual_seed(0)
    card = {
        "method_classes": ["real", "fake"],
        "size_px": 32,
        "config": small_config().model_dump(mode="json"),
        **Fitted(Threshold(0.5, "eer", "A", n_real=20, n_fake=20)).to_dict(),
    }
    checkpoint.save(SMALL, Network(), folder / "detector.safetensors", card)
    table = scored(SOURCE, "test", 2.0)
    names = ["=cmd|' /C calc'!A0", "\x1b[31m", "<script src=http://127.0.0.1/x>", "../../etc/passwd"]
    table["gender"] = table["identity"].map(lambda person: names[len(person) % 2 + 2 * (person[-1] < "5")])
    PREDICTIONS.write(table.assign(dataset="http://127.0.0.1/x"), folder / "scores.csv")


def commands(verb: str, folder: Path) -> list[list[str]]:
    """The command lines of a verb, in order."""
    given = {
        "scan": ["root=data", "source=folder", "out=out/manifest.parquet"],
        "audit": ["manifest=out/manifest.parquet", "out=out/audit"],
        "preprocess": ["manifest=out/manifest.parquet", "out=out/faces", "workers=2", "frames_per_video=2"],
        "evaluate": ["predictions=scores.csv", "out=out/run", "n_boot=50"],
        "fairness": ["predictions=scores.csv", "by=[gender]", "out=out/run", "n_boot=100", "n_perm=100"],
        "report": ["run=out/run"],
    }
    own = [f"detector={TESTS / 'train_fakes.py'}", "checkpoint=detector.safetensors"]
    if verb == "inspect":
        return [[verb, place, *own, f"out=out/{place}"] for place in ("hostile", "data/fake")]
    if verb == "verify":  # of each kind of file that was looked at
        return [[verb, str(path.parent), *own] for path in sorted(folder.glob("out/hostile/*/case.json"))[:3]]
    if verb in given:
        return [[verb, *given[verb]]]
    tables = ["faces.parquet", *(f"faces{number}.parquet" for number in range(len(NASTY_CROPS)))]
    few = {"predict": ["splits=[test]"], "explain": ["splits=[test]"], "train": ["training.epochs=1"]}[verb]
    if verb == "train":
        own.pop()
    if verb != "predict":  # the others of these end as they do there
        tables = [tables[0], "faces0.parquet", "faces2.parquet", "faces3.parquet"]
    return [[verb, *own, *few, f"faces={name}", f"out=out/{verb}/{name}"] for name in tables]


def trace(folder: Path, verb: str) -> dict[str, Any]:
    """What the commands of a verb asked the system for, and how they ended."""
    log, result = folder / "strace.txt", {"commands": [], "calls": 0, "programs": [], "findings": []}
    (folder / "out" / "tmp").mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH", ""), str(TESTS)]))
    environment = {**os.environ, "PYTHONPATH": path, "TMPDIR": str(folder / "out" / "tmp")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": str(folder / "out" / "tmp")}
    for arguments in commands(verb, folder):
        command = [
            "strace",
            "-f",
            "-qq",
            "-y",
            "-s",
            "4096",
            "-e",
            f"trace={','.join(CALLS)}",
            "-o",
            str(log),
        ]
        command += [sys.executable, "-m", "unmasked.app.cli", *arguments]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        result["commands"].append({"code": done.returncode, "end": done.stderr.strip()[-300:]})
        if "Traceback" in done.stderr:
            result["findings"].append(f"traceback: {done.stderr[-1000:]}")
        lines = log.read_text(errors="replace").splitlines()
        result["calls"] += len(lines)
        for line in lines:
            _judge(line, folder, result)
    result["programs"] = sorted(set(result["programs"]))
    result["findings"] = sorted(set(result["findings"]))
    told = {"verb": verb, "codes": [one["code"] for one in result["commands"]], "calls": result["calls"]}
    print(json.dumps({**told, "findings": result["findings"]}), file=sys.stderr, flush=True)
    return result


def _judge(line: str, folder: Path, result: dict[str, Any]) -> None:
    call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
    if call is None or call[3].startswith("-"):  # another line, or a call that the system refused
        return
    name, arguments = call[1], call[2]
    # A path is taken from the folder that stands before it: AT_FDCWD</here>, "name".
    found = re.findall(r'(?:<([^>"]*)>, )?"((?:[^"\\]|\\.)*)"', arguments)
    paths = [os.path.realpath(Path(base or folder, text)) for base, text in found]
    if name.startswith("execve"):
        result["programs"].append(paths[0])
        is_expected = any(words in arguments for words in STARTED)
        if paths[0] != os.path.realpath(sys.executable) and not is_expected:
            result["findings"].append(line[:300])
    elif name in ("socket", "connect", "bind", "sendto", "sendmsg"):
        if "AF_UNIX" not in arguments and name in ("socket", "connect", "bind"):
            result["findings"].append(line[:300])
    elif _is_foreign(line, folder):
        result["findings"].append(line[:300])
    elif name.startswith(CHANGES) or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", arguments):
        outside = [path for path in paths if not path.startswith((str(folder / "out") + os.sep, *DEVICES))]
        if [path for path in outside if path != str(folder / "out")]:
            result["findings"].append(line[:300])


def _is_foreign(line: str, folder: Path) -> bool:
    """True if a file was opened that is neither below the folder nor what every process reads."""
    opened = re.search(r"= \d+<(/[^>]*)>$", line)
    if opened is None or "O_DIRECTORY" in line:
        return False
    place = os.path.realpath(opened[1])
    return not place.startswith((f"{folder}/", *READABLE)) and place not in READ


def run(verbs: tuple[str, ...] = VERBS) -> dict[str, Any]:
    """What each verb did; a server that nobody may call listens meanwhile."""
    with tempfile.TemporaryDirectory() as place, socket.create_server(("127.0.0.1", 0)) as server:
        folder = Path(place).resolve() / "here"
        folder.mkdir()
        server.setblocking(False)
        write_inputs(folder, server.getsockname()[1])
        before = _contents(folder)
        found = {verb: trace(folder, verb) for verb in verbs}
        (folder / "strace.txt").unlink()
        try:
            server.accept()
            found["server"] = "was called"
        except BlockingIOError:
            found["server"] = "was not called"
        found["inputs"] = "as before" if _contents(folder) == before else "CHANGED"
    return found


def _contents(folder: Path) -> dict[str, bytes]:
    inputs = [path for path in folder.rglob("*") if (folder / "out") not in (path, *path.parents)]
    return {str(path): path.read_bytes() for path in inputs if path.is_file() and not path.is_symlink()}


if __name__ == "__main__":
    print(json.dumps(run(tuple(sys.argv[1:]) or VERBS), indent=1))
