"""What `unmasked serve` holds, measured on this machine over the loopback interface alone.

    python benchmarks/serving.py checkpoint=runs/ucf files=FOLDER [performance=RUN] seconds=300 clients=50

FOLDER holds videos and pictures, which clients send in turn. Printed as JSON: a load of many clients (lost
jobs, answers of 5xx, seconds at the 50th and 95th percentile, memory at a third of the time and at the end),
its throughput against a loop of `inspect` in one process that has loaded everything (``warm``) and a loop
of the command (``loop``) on the same files, malformed uploads, slow clients, kills
of the process with the detector, tokens, and schemathesis, if that is installed. Exit code 1 where a part
fails; ``parts=load,loop`` runs some of them alone. All other keys are those of `unmasked serve`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, urlsplit

import numpy as np

TOKENS = ("benchmark-token-one-0123456789", "benchmark-token-two-0123456789")
MALFORMED = 200
LOOP_FILES = 8  # a loop of `inspect` is slow
SLOW_CLIENTS = 100
OPEN = ("queued", "running")
SETTINGS = Path(__file__).with_name("schemathesis.toml")
WARM_S = 30.0
PARTS = ("warm", "load", "batching", "loop", "malformed", "slow", "kills", "tokens", "schemathesis")


@dataclass
class Tally:
    """What clients met."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """Requests over connections of its own."""

    def __init__(self, address: str, tally: Tally | None = None, token: str = "") -> None:
        self.host, self.tally, self.token = urlsplit(address).netloc, tally or Tally(), token

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and content."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        try:
            connection.request(
                method, path, body, {"Authorization": f"Bearer {self.token}"} if self.token else {}
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        with self.tally.lock:
            self.tally.statuses[answer.status] += 1
        return answer.status, dict(answer.getheaders()), content

    def send(self, file: Path, content: bytes | None = None) -> str:
        """The id of the job of a file; waits where the queue is full."""
        while True:
            path = f"/v1/jobs?name={quote(file.name)}"
            status, headers, body = self.ask("POST", path, file.read_bytes() if content is None else content)
            if status == 202:
                return json.loads(body)["id"]
            if status != 429:
                raise ValueError(f"{file.name}: {status} {body[:200]!r}")
            time.sleep(int(headers["retry-after"]) * random.uniform(0.7, 1.3))  # no secret  # nosec B311

    def wait(self, job: str, every_s: float = 0.5) -> dict:
        """The job once it has ended."""
        while True:
            status, _, body = self.ask("GET", f"/v1/jobs/{job}")
            if status != 200:
                return {"state": f"lost ({status})"}
            found = json.loads(body)
            if found["state"] not in OPEN:
                return found
            time.sleep(every_s)

    def look(self, file: Path, content: bytes | None = None) -> dict:
        """The ended job of a file, which is then removed."""
        began = time.monotonic()
        job = self.send(file, content)
        found = self.wait(job)
        with self.tally.lock:
            self.tally.seconds.append(time.monotonic() - began)
            self.tally.states[found["state"]] += 1
            if found["state"] != "done":
                self.tally.lost.append(f"{job}: {found['state']} {found.get('reason', '')}")
        self.ask("DELETE", f"/v1/jobs/{job}")
        return found


@contextmanager
def server(given: Sequence[str], **environment: str) -> Iterator[tuple[str, int]]:
    """The address of a server, and the number of its process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "unmasked.app.cli",
            "serve",
            *given,
            f"out={folder}/served",
            "port=0",
        ]
        with open(Path(folder) / "log", "w+b") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **environment}
            )
            assert process.stdout is not None
            line = process.stdout.readline()
            if "answers" not in line:
                log.seek(0)
                raise SystemExit(log.read().decode())
            try:
                yield line.split()[0], process.pid
            finally:
                process.send_signal(signal.SIGTERM)
                code = process.wait(60)
                assert code == 143, f"it ended with {code}"


def family(pid: int) -> list[int]:
    """A process and all that it has started."""
    found = [pid]
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [one for child in path.read_text().split() for one in family(int(child))]
    return found


def memory_mb(pid: int) -> dict[str, float]:
    """Resident megabytes: of the server alone, and of all its processes together."""
    sizes = []
    for one in family(pid):
        with suppress(OSError):
            sizes.append(int(Path(f"/proc/{one}/statm").read_text().split()[1]) * 4096 / 1e6)
    return {"server": round(sizes[0]), "all": round(sum(sizes))}


def cpu_s(pid: int) -> float:
    """Processor seconds of a process, its children, and those of them that have ended."""
    ticks = 0
    for one in family(pid):
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def load(given: Sequence[str], files: Sequence[Path], seconds: float, clients: int) -> dict:
    """Clients that send files in turn for so many seconds, and wait for each answer."""
    tally = Tally()
    with server([*given, f"queue={max(8, clients // 2)}"]) as (address, pid):
        Client(address).look(files[0])  # everything is loaded
        began, began_cpu = time.monotonic(), cpu_s(pid)
        ends = began + seconds

        def work(number: int) -> None:
            client, place = Client(address, tally), number
            while time.monotonic() < ends:
                client.look(files[place % len(files)])
                place += clients + 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 3)
        early = memory_mb(pid)
        time.sleep(seconds * 2 / 3 - 1)
        late = memory_mb(pid)
        for thread in threads:
            thread.join()
        taken, used = time.monotonic() - began, cpu_s(pid) - began_cpu
        metrics = Client(address).ask("GET", "/metrics")[2].decode()
    jobs, batches = (_metric(metrics, name) for name in ("batch_jobs_total", "batches_total"))
    images, passed_s = (_metric(metrics, f"batch_{name}_total") for name in ("images", "seconds"))
    done = len(tally.seconds)
    return {
        "clients": clients,
        "seconds": round(taken, 1),
        "jobs": done,
        "lost jobs": tally.lost,
        "statuses": dict(sorted(tally.statuses.items())),
        "5xx": sum(count for status, count in tally.statuses.items() if status >= 500),
        "p50, s": round(float(np.percentile(tally.seconds, 50)), 2),
        "p95, s": round(float(np.percentile(tally.seconds, 95)), 2),
        "jobs a second": round(done / taken, 3),
        "processor seconds a job": round(used / done, 3),
        "jobs a pass": round(jobs / max(1, batches), 2),
        "a pass, ms a face": round(1000 * passed_s / max(1, images), 2),
        "memory, MB, at a third": early,
        "memory, MB, at the end": late,
        "is right": not tally.lost and all(status < 500 for status in tally.statuses),
    }


def batching(given: Sequence[str], files: Sequence[Path], seconds: float, clients: int) -> dict:
    """The same small pictures with several jobs judged at once, and with each alone."""
    pictures = [path for path in files if path.suffix in (".png", ".jpg")]
    small = sorted(pictures, key=lambda path: path.stat().st_size)
    found = {}
    for name, jobs in (("together", 16), ("alone", 1)):
        done = load([*given, "maps=false", f"batch={jobs}"], small[:8], seconds, clients)
        kept = ("jobs", "jobs a second", "processor seconds a job", "jobs a pass", "p50, s", "p95, s")
        found[name] = {key: done[key] for key in kept}
    gain = found["together"]["jobs a second"] / found["alone"]["jobs a second"]
    spent = found["alone"]["processor seconds a job"] / found["together"]["processor seconds a job"]
    is_right = found["together"]["jobs a pass"] > 1.5
    return {**found, "throughput": round(gain, 2), "processor time": round(spent, 2), "is right": is_right}


def warm(given: Sequence[str], files: Sequence[Path]) -> dict:
    """`inspect` for one file after the other in one process, which has loaded everything."""
    from unmasked.app.examiner import load_examiner
    from unmasked.app.verbs.serve import Config
    from unmasked.inspection.examine import crop_config, start_examination
    from unmasked.inspection.file_facts import examiner_pool

    config = Config(**dict(one.split("=", 1) for one in given))
    examiner = load_examiner(config.checkpoint, performance=config.performance, maps=config.maps)
    crops = crop_config(config, examiner.card.get("crops") or {}, workers=1)
    examination = start_examination(examiner, crops, closer=config.closer)
    pool, done = examiner_pool(crops), 0
    with tempfile.TemporaryDirectory() as folder:

        def look(number: int) -> None:
            file = files[number % len(files)]
            with examination.look_into([(file, Path(folder) / str(number))], pool) as found:
                list(examination.judge(found, pool))

        look(0)
        began, began_cpu = time.monotonic(), cpu_s(os.getpid())
        while time.monotonic() - began < WARM_S:
            done += 1
            look(done)
        taken, used = time.monotonic() - began, cpu_s(os.getpid()) - began_cpu
        pool.stop()
    return {
        "files": done,
        "files a second": round(done / taken, 3),
        "processor seconds a file": round(used / done, 3),
        "is right": True,
    }


def loop(given: Sequence[str], files: Sequence[Path]) -> dict:
    """The command `inspect` for one file after the other, as a loop in a shell does it."""
    began, began_cpu = time.monotonic(), sum(os.times()[2:4])
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            command = [
                sys.executable,
                "-m",
                "unmasked.app.cli",
                "inspect",
                file,
                *given,
                f"out={folder}/{number}",
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    taken, used = time.monotonic() - began, sum(os.times()[2:4]) - began_cpu
    return {
        "files": len(files),
        "files a second": round(len(files) / taken, 3),
        "processor seconds a file": round(used / len(files), 2),
        "is right": True,
    }


def malformed(given: Sequence[str], files: Sequence[Path], seed: int) -> dict:
    """Files that are cut, overwritten, or noise: each ends with a finding or a refusal, never a fault."""
    rng, found, faults = np.random.default_rng(seed), Counter(), []
    with server(given) as (address, _):
        client = Client(address)
        for number in range(MALFORMED):
            content = bytearray(files[number // 5 % len(files)].read_bytes())  # each way meets each file
            way = ("cut", "bytes", "block", "noise", "head")[number % 5]
            if way == "cut":
                content = content[: int(rng.integers(1, len(content)))]
            elif way == "noise":
                content[600:] = rng.bytes(len(content) - 600)
            elif way == "head":
                content[: int(rng.integers(1, 64))] = b""
            else:
                for _ in range(200 if way == "bytes" else 1):
                    place = int(rng.integers(0, max(1, len(content) - 4096)))
                    part = rng.bytes(1 if way == "bytes" else 4096)
                    content[place : place + len(part)] = part
            status, _, body = client.ask("POST", f"/v1/jobs?name={number}.mp4", bytes(content))
            if status != 202:
                found[f"{status}"] += 1
                continue
            job = client.wait(json.loads(body)["id"], 0.1)
            word = job["result"]["finding"]["verdict"] if job.get("result") else job["state"]
            found[word] += 1
            if job["state"] != "done":
                faults.append(f"{number} {way}: {job['state']} {job.get('reason')}")
        status = client.look(files[0])["state"]
    is_right = not faults and status == "done" and all(s < 500 for s in client.tally.statuses)
    return {"uploads": MALFORMED, "ends": dict(found), "faults": faults, "then": status, "is right": is_right}


def slow(given: Sequence[str], files: Sequence[Path]) -> dict:
    """Clients that send a letter a second, of headers or of a body, while others work."""
    with server([*given, "idle_s=5"]) as (address, _):
        host, port = urlsplit(address).netloc.split(":")
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 1000000\r\n\r\n"
        starts = [
            head.encode() if number % 2 else b"GET / HTTP/1.1\r\nX-A: " for number in range(SLOW_CLIENTS)
        ]
        began, ended = time.monotonic(), []

        def trickle(start: bytes) -> None:
            with socket.create_connection((host, int(port))) as client:
                client.settimeout(0.2)
                with suppress(ConnectionError):
                    client.sendall(start)
                    while time.monotonic() - began < 90:
                        client.sendall(b"a")
                        with suppress(TimeoutError):
                            if not client.recv(1000):
                                break
                        time.sleep(0.8)
            ended.append(time.monotonic() - began)

        threads = [threading.Thread(target=trickle, args=(start,)) for start in starts]
        for thread in threads:
            thread.start()
        time.sleep(2)
        asked = time.monotonic()
        state = Client(address).look(files[0])["state"]
        answered_s = time.monotonic() - asked
        for thread in threads:
            thread.join()
    last = max(ended)
    return {
        "clients": SLOW_CLIENTS,
        "all dropped after, s": round(last, 1),
        "another's job meanwhile": f"{state} in {answered_s:.1f} s",
        "is right": last < 60 and state == "done",
    }


def kills(given: Sequence[str], files: Sequence[Path], count: int = 3) -> dict:
    """Kills of the process with the detector while jobs are at work."""
    tally = Tally()
    with server(given) as (address, pid):
        client = Client(address, tally)
        client.look(files[0])
        threads = [threading.Thread(target=client.look, args=(files[n % len(files)],)) for n in range(12)]
        for thread in threads:
            thread.start()
        for _ in range(count):
            time.sleep(3)
            bench = [one for one in family(pid)[1:] if _is_bench(one)]
            for one in bench:
                with suppress(OSError):
                    os.kill(one, signal.SIGKILL)
            _wait_until(lambda: client.ask("GET", "/healthz")[0] == 200)
        for thread in threads:
            thread.join()
    ended = sum(tally.states.values())
    words = [one for one in tally.lost if "ended twice" not in one]
    is_right = ended == 13 and not words
    return {
        "kills": count,
        "jobs": 13,
        "ends": dict(tally.states),
        "reasons": tally.lost,
        "is right": is_right,
    }


def tokens(given: Sequence[str], files: Sequence[Path]) -> dict:
    """Two tokens, a wrong one, none; and another address without any."""
    with server([*given, "host=0.0.0.0"], UNMASKED_TOKEN=" ".join(TOKENS)) as (address, _):
        address = address.replace("0.0.0.0", "127.0.0.1")
        first, second = (Client(address, token=token) for token in TOKENS)
        job = first.send(files[0])
        first.wait(job)
        asked = {
            "its own": first.ask("GET", f"/v1/jobs/{job}")[0],
            "another's": second.ask("GET", f"/v1/jobs/{job}")[0],
            "another's case": second.ask("GET", f"/v1/jobs/{job}/case")[0],
            "another's removed": second.ask("DELETE", f"/v1/jobs/{job}")[0],
            "wrong token": Client(address, token="wrong" + TOKENS[0]).ask("GET", f"/v1/jobs/{job}")[0],
            "no token": Client(address).ask("GET", f"/v1/jobs/{job}")[0],
        }
    command = [sys.executable, "-m", "unmasked.app.cli", "serve", *given, "host=0.0.0.0"]
    asked["open to others without one: exit code"] = subprocess.run(
        command, stderr=subprocess.DEVNULL, check=False
    ).returncode
    return {**asked, "is right": list(asked.values()) == [200, 404, 404, 404, 401, 401, 2]}


def schemathesis(given: Sequence[str]) -> dict:
    """Requests made of the description of the interface, held against it."""
    program = shutil.which("schemathesis")
    if program is None:
        return {"skipped": "schemathesis is not installed", "is right": True}
    with server([*given, "queue=1000", "idle_s=5"]) as (address, _):
        options = ["--max-examples", "30", "--generation-database", "none", "--seed", "1"]
        done = subprocess.run(
            [program, "--config-file", str(SETTINGS), "run", f"{address}/openapi.json", *options],
            capture_output=True,
            text=True,
            check=False,
        )
    said = [line.strip() for line in done.stdout.splitlines() if "generated" in line or "passed" in line]
    return {
        "said": said[-2:],
        "is right": done.returncode == 0,
        **({} if not done.returncode else {"out": done.stdout[-3000:]}),
    }


def main(arguments: Sequence[str]) -> None:
    """Runs the parts that are asked for and prints what they found."""
    keys = dict(argument.split("=", 1) for argument in arguments)
    own = {"files": "", "seconds": "300", "clients": "50", "seed": "0", "parts": ",".join(PARTS)}
    own |= {name: keys.pop(name) for name in own if name in keys}
    given = [f"{name}={value}" for name, value in keys.items()]
    files = sorted(path for path in Path(own["files"]).rglob("*") if path.is_file())
    steps: dict[str, Callable[[], dict]] = {
        "warm": lambda: warm(given, files),
        "load": lambda: load(given, files, float(own["seconds"]), int(own["clients"])),
        "batching": lambda: batching(given, files, float(own["seconds"]) / 5, int(own["clients"])),
        "loop": lambda: loop(given, files[:LOOP_FILES]),
        "malformed": lambda: malformed(given, files, int(own["seed"])),
        "slow": lambda: slow(given, files),
        "kills": lambda: kills(given, files),
        "tokens": lambda: tokens(given, files),
        "schemathesis": lambda: schemathesis(given),
    }
    found = {}
    for name in own["parts"].split(","):
        found[name] = steps[name]()
        print(f"{name}: {json.dumps(found[name], ensure_ascii=False, indent=2)}", flush=True)
    for name in {"warm", "loop"} & set(found) if "load" in found else ():
        fast = found["load"]["jobs a second"] / found[name]["files a second"]
        spent = found[name]["processor seconds a file"] / found["load"]["processor seconds a job"]
        print(f"the server against {name}: {fast:.2f} times the throughput, {spent:.2f} by processor time")
    raise SystemExit(0 if all(one["is right"] for one in found.values()) else 1)


def _metric(text: str, name: str) -> float:
    return next(
        (float(line.split()[1]) for line in text.splitlines() if line.startswith(f"unmasked_{name} ")), 0.0
    )


def _is_bench(pid: int) -> bool:
    """True if the process starts others: those that decode do not."""
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"spawn_main" in command and len(family(pid)) > 1
    return False


def _wait_until(is_so: Callable[[], bool]) -> None:
    for _ in range(600):
        with suppress(OSError):
            if is_so():
                return
        time.sleep(0.2)


if __name__ == "__main__":
    main(sys.argv[1:])
