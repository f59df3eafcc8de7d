"""The jobs: who waits, who is done, and what of each lies on the disk.

A job is a folder: ``job.json``, ``upload/NAME`` until there is an answer, and ``case/``. All
methods are called from one thread.
"""

from __future__ import annotations

import logging
import math
import re
import secrets
import shutil
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

from pydantic import BaseModel, ValidationError

from unmasked.datasets.documents import read_json, write_json
from unmasked.datasets.errors import InputError, printable
from unmasked.serving.records import Stage, State, Upload
from unmasked.serving.settings import Limits

JOB, UPLOAD, CASE = "job.json", "upload", "case"
STOPPED = "the server was stopped before the file had been looked at; send it again"
NAME_BYTES_MAX = 150
NOT_IN_NAMES = re.compile(r'[^\w .()+,=@-]|[\\/:*?"<>|]')
WAIT_S_MAX = 60

logger = logging.getLogger(__name__)


class QueueFull(Exception):
    """A token has as many jobs waiting as it may.

    Attributes:
        retry_s: seconds after which a place may be free.
    """

    def __init__(self, retry_s: int) -> None:
        super().__init__(retry_s)
        self.retry_s = retry_s


class Entry(BaseModel):
    """A job, as ``job.json`` keeps it."""

    id: str
    owner: str
    name: str
    bytes: int
    sha256: str
    keep: bool
    created: datetime
    state: State = "queued"
    stage: Stage = "waiting"
    finished: datetime | None = None
    seconds: float | None = None
    reason: str = ""
    tries: int = 0

    @property
    def is_finished(self) -> bool:
        """True if nothing more happens to it."""
        return self.state in ("done", "failed", "stopped")

    @property
    def upload(self) -> Upload:
        """What became of the file."""
        if not self.is_finished:
            return "there"
        return "kept" if self.keep else "deleted"


class Jobs:
    """All jobs of a server.

    Args:
        folder: where their files are; jobs of a server that ran here before are there again.
        limits: see `Limits`.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.folder, self._limits = folder, limits
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        # By owner, so that who sends much does not keep others waiting: owners take turns.
        self._waiting: OrderedDict[str, deque[Entry]] = OrderedDict()
        self._uploading: Counter[str] = Counter()
        self._mean_s = 5.0  # of a job, for who asks when to come again
        self._load()

    def path(self, entry: Entry) -> Path:
        """The folder of a job."""
        return self.folder / entry.id

    def file(self, entry: Entry) -> Path:
        """The uploaded file of a job."""
        return self.path(entry) / UPLOAD / entry.name

    def find(self, job: str, owner: str) -> Entry | None:
        """A job of this owner; None where there is none, or it is somebody else's."""
        entry = self._entries.get(job)
        return entry if entry is not None and entry.owner == owner else None

    def is_known(self, entry: Entry) -> bool:
        """True if the job was not removed."""
        return entry.id in self._entries

    @property
    def receiving(self) -> int:
        """How many files are being received."""
        return self._uploading.total()

    def count(self) -> Counter[str]:
        """How many jobs are in each state."""
        return Counter(entry.state for entry in self._entries.values())

    def before(self, entry: Entry) -> int:
        """How many jobs of the same owner come before it."""
        if entry.state != "queued":
            return 0
        return next((n for n, one in enumerate(self._waiting.get(entry.owner, ())) if one is entry), 0)

    @contextmanager
    def place(self, owner: str) -> Iterator[str]:
        """Holds a place in the queue while a file is received; the job's id.

        Raises:
            QueueFull: there is none.
        """
        if self._uploading[owner] + len(self._waiting.get(owner, ())) >= self._limits.queue:
            raise QueueFull(self._retry_s())
        self._uploading[owner] += 1
        try:
            yield secrets.token_hex(16)
        finally:
            self._uploading[owner] -= 1
            if not self._uploading[owner]:
                del self._uploading[owner]

    def write(self, entry: Entry) -> None:
        """Writes ``job.json``."""
        write_json(self.path(entry) / JOB, entry.model_dump(mode="json"))

    def add(self, entry: Entry) -> None:
        """Puts a job whose file is there at the end of its owner's queue."""
        self._entries[entry.id] = entry
        self._waiting.setdefault(entry.owner, deque()).append(entry)

    def take(self) -> Entry | None:
        """The next job, which is running now; None where nobody waits."""
        for owner in list(self._waiting):
            queue = self._waiting[owner]
            entry = queue.popleft()
            self._waiting.move_to_end(owner)
            if not queue:
                del self._waiting[owner]
            entry.state, entry.stage = "running", "waiting"
            return entry
        return None

    def is_next_again(self) -> bool:
        """True if the next job ended the process that looked at it before."""
        return bool(self._waiting) and next(iter(self._waiting.values()))[0].tries > 0

    def give_back(self, entry: Entry) -> None:
        """Puts a running job in front of all others, without what came of it so far."""
        self._remove_parts(entry, CASE)
        entry.state, entry.stage = "queued", "waiting"
        self._waiting.setdefault(entry.owner, deque()).appendleft(entry)
        self._waiting.move_to_end(entry.owner, last=False)

    def end(self, entry: Entry, state: State, reason: str = "", seconds: float | None = None) -> None:
        """Ends a job.

        Its file is gone, unless it is kept, before anybody can see that it has ended.
        """
        queue = self._waiting.get(entry.owner)
        if queue is not None and entry in queue:
            queue.remove(entry)
            if not queue:
                del self._waiting[entry.owner]
        if not entry.keep:
            self._remove_parts(entry, UPLOAD)
        if state != "done":  # half a case is none
            self._remove_parts(entry, CASE)
        ended: dict[str, object] = {"state": state, "stage": "finished", "finished": now()}
        ended |= {"reason": printable(reason), "seconds": seconds}
        if seconds is not None:
            self._mean_s += 0.1 * (seconds - self._mean_s)
        if self.is_known(entry):
            try:
                self.write(entry.model_copy(update=ended))
            except OSError as error:  # a full disk must not leave it running for ever
                logger.error("job %s has ended, which could not be written (%s)", entry.id, error.strerror)
        for name, value in ended.items():
            setattr(entry, name, value)
        if not self.is_known(entry):  # removed while it ran
            shutil.rmtree(self.path(entry), ignore_errors=True)

    def remove(self, entry: Entry) -> None:
        """Removes a job and all its files; what a running one still writes goes when it ends."""
        self._entries.pop(entry.id, None)
        if entry.state == "queued":
            self.end(entry, "stopped")
        shutil.rmtree(self.path(entry), ignore_errors=True)

    def sweep(self) -> None:
        """Removes finished jobs that are too old, or too many or too large of one owner."""
        oldest = now() - timedelta(hours=self._limits.retain_h)
        finished = [entry for entry in self._entries.values() if entry.is_finished]
        # By owner: who sends much does not push out what others were answered.
        left, kept = Counter(entry.owner for entry in finished), Counter[str]()
        for entry in finished:
            kept[entry.owner] += entry.bytes * entry.keep
        for entry in sorted(finished, key=lambda one: one.finished or one.created):
            is_large = entry.keep and kept[entry.owner] > self._limits.keep_gb * 1e9
            is_many = left[entry.owner] > self._limits.retain_jobs
            if is_many or is_large or (entry.finished or entry.created) < oldest:
                left[entry.owner] -= 1
                kept[entry.owner] -= entry.bytes * entry.keep
                self.remove(entry)

    def unfinished(self) -> list[Entry]:
        """Jobs that wait or run."""
        return [entry for entry in self._entries.values() if not entry.is_finished]

    def _remove_parts(self, entry: Entry, *parts: str) -> None:
        for part in parts:
            shutil.rmtree(self.path(entry) / part, ignore_errors=True)

    def _retry_s(self) -> int:
        return max(1, min(WAIT_S_MAX, math.ceil(self._mean_s * max(1, len(self._waiting)))))

    def _load(self) -> None:
        """Reads the jobs of a server before; what it had not finished was stopped."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for folder in sorted(
            path for path in self.folder.iterdir() if re.fullmatch("[0-9a-f]{32}", path.name)
        ):
            try:
                entry = Entry.model_validate(read_json(folder / JOB, "remove its folder", what="job"))
            except (InputError, ValidationError):  # an upload that never became a job
                if _is_ours(folder):
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            # Who wrote the record decides no path: files are removed by these.
            if entry.id != folder.name or entry.name != file_name(entry.name):
                logger.warning("%s is of another job, and is left as it is", folder / JOB)
                continue
            self._entries[entry.id] = entry
            if not entry.is_finished:
                self.end(entry, "stopped", STOPPED)


def _is_ours(folder: Path) -> bool:
    """True if a folder holds nothing but what a job's has; others name folders by digests, too."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    return names <= {JOB, UPLOAD, CASE}


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(timezone.utc)


def file_name(given: str) -> str:
    r"""A name that any file may have, as near to the given one as can be.

    >>> file_name("../../etc/passwd"), file_name("C:\\clips\\a b.mp4"), file_name("")
    ('passwd', 'a b.mp4', 'upload')
    """
    last = re.split(r"[\\/]", given)[-1]
    kept = NOT_IN_NAMES.sub("_", last).strip(" .")
    stem, dot, suffix = kept.rpartition(".")
    stem, dot, suffix = (stem, dot, suffix[:10]) if stem else (suffix, "", "")
    while len(f"{stem}{dot}{suffix}".encode()) > NAME_BYTES_MAX:
        stem = stem[:-1]
    return f"{stem}{dot}{suffix}".strip(" .") or "upload"
