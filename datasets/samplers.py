"""Which rows of a faces table are drawn in an epoch, in which order, and with which seeds.

A sampler yields row numbers, or pairs of them; `Batches` makes of either what a
`unmasked.datasets.loading.CropDataset` is asked for. An epoch depends on the seed, the epoch's number and
the share of a process only: `set_epoch` is all that a resumed training needs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence, Sized
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch.utils.data import Sampler

from unmasked.datasets.errors import InputError

logger = logging.getLogger(__name__)

KIND = {0: "real", 1: "fake"}
Pair = tuple[int, int]


class Draw(NamedTuple):
    """A row of a faces table to be fetched, and the seed of its random changes."""

    row: int
    seed: int = 0


class RowSampler(Sized, Protocol):
    """What `Batches` needs: rows or pairs of rows, in another order each epoch."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""

    def __iter__(self) -> Iterator[int] | Iterator[Pair]: ...


class Batches(Sampler[list[Draw]]):
    """Draws in batches; of pairs, first all reals, then their fakes.

    Seeds go with the rows, so images do not depend on which worker process fetched them, nor on how
    many there are.

    Args:
        sampler: of rows or of pairs.
        size: rows, or pairs, in a batch; the last one may have fewer.
        seed, rank: of the random changes; the same ones in the same epoch of the same process.
    """

    def __init__(self, sampler: RowSampler, size: int, *, seed: int = 0, rank: int = 0) -> None:
        self.sampler, self.size = sampler, size
        self.seed, self.rank = seed, rank
        self.epoch = 0
        self.done = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and the seeds of the next pass; the Lightning Trainer calls it."""
        self.epoch = epoch
        self.sampler.set_epoch(epoch)

    def resume(self, epoch: int, batches: int) -> None:
        """Leaves out this many batches at the beginning of this epoch, and nothing in any other."""
        self.set_epoch(epoch)
        self.done = (epoch, batches)

    def __len__(self) -> int:
        """Batches of a whole epoch, however many are left out of a resumed one."""
        return math.ceil(len(self.sampler) / self.size)

    def __iter__(self) -> Iterator[list[Draw]]:
        # Not the sampler's own stream: numpy takes [seed, epoch] and [seed, epoch, 0] for the same seed.
        rng = np.random.default_rng([self.seed, self.epoch, self.rank + 1])
        entries = iter(self.sampler)
        epoch, batches = self.done
        if epoch == self.epoch:  # their seeds are drawn all the same, so that the others stay
            rng.integers(2**63, size=np.array(list(islice(entries, batches * self.size))).size)
        while batch := list(islice(entries, self.size)):
            rows = np.array(batch).T.ravel()  # (B, 2) -> reals, then fakes
            seeds = rng.integers(2**63, size=len(rows))
            yield [Draw(*draw) for draw in zip(rows.tolist(), seeds.tolist(), strict=True)]


class InOrder(Sampler[int]):
    """All rows from first to last, the same in every epoch.

    Of several processes each has its share.
    Where rows do not divide among the processes, the first ones come again, so that shares are equal.
    """

    def __init__(self, rows: int, *, rank: int = 0, replicas: int = 1) -> None:
        self.rows = _fill_up(np.arange(rows), replicas)[rank::replicas]

    def set_epoch(self, epoch: int) -> None:
        """Changes nothing."""

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.tolist())


class NaturalSampler(Sampler[int]):
    """Every row once an epoch, shuffled: classes and groups in the shares that the table has.

    Args:
        rows: how many the table has.
        seed: same seed and epoch, same order.
        rank, replicas: this process among how many; shares are made equal as in `InOrder`.
    """

    def __init__(self, rows: int, *, seed: int = 0, rank: int = 0, replicas: int = 1) -> None:
        self.rows, self.seed, self.rank, self.replicas = rows, seed, rank, replicas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.rows / self.replicas)

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.rows)
        yield from _fill_up(order, self.replicas)[self.rank :: self.replicas].tolist()


class BalancedSampler(Sampler[int]):
    """Reals and fakes equally often; with ``groups``, each label of each group equally often.

    Cells are the labels, or the combinations of label and groups. Draws come in rounds that have each
    cell once, in random order, so shares are equal within every batch up to one round. An epoch has as
    many rounds as the largest cell has rows: it shows every row, those of smaller cells repeatedly, but
    none more than once more often than another of its cell.

    Args:
        faces: training rows; both labels, and both in every group.
        groups: columns such as gender; rows that lack one of them are left out, with a warning.
        seed: same seed and epoch, same rows.
        rank, replicas: this process among how many; each has whole rounds.

    Raises:
        InputError: a column is absent, no row has all of them, or a group lacks reals or fakes: to balance
            it would make the group tell the label.
    """

    def __init__(
        self,
        faces: pd.DataFrame,
        *,
        groups: Sequence[str] = (),
        seed: int = 0,
        rank: int = 0,
        replicas: int = 1,
    ) -> None:
        self.cells = _cells(faces, groups)
        longest = max(len(rows) for rows in self.cells)
        self.rounds = -(-longest // replicas) * replicas
        self.seed, self.rank, self.replicas = seed, rank, replicas
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the rows and the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rounds // self.replicas * len(self.cells)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch])
        columns = [_reshuffle(rows, self.rounds, rng) for rows in self.cells]
        rounds = rng.permuted(np.stack(columns, axis=1), axis=1)  # (rounds, cells)
        yield from rounds[self.rank :: self.replicas].ravel().tolist()


class WholeBatches(Sampler[int]):
    """The rows of another sampler in whole batches, which several processes take in turns.

    The last batches are filled up with rows from the beginning of the order, so that all batches of all
    processes are whole, and all steps have all their batches: as in `PairSampler`.

    Args:
        sampler: of all rows, for one process.
        batch: rows in a batch of one process.
        accumulate: batches of one process in a step of the optimiser.
        rank, replicas: this process among how many.
    """

    def __init__(
        self, sampler: RowSampler, batch: int, *, accumulate: int = 1, rank: int = 0, replicas: int = 1
    ) -> None:
        self.sampler, self.batch, self.rank, self.replicas = sampler, batch, rank, replicas
        self.whole = batch * replicas * accumulate

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return -(-len(self.sampler) // self.whole) * self.whole // self.replicas

    def __iter__(self) -> Iterator[int]:
        rows = _fill_up(np.array(list(self.sampler), np.int64), self.whole)
        yield from rows.reshape(-1, self.replicas, self.batch)[:, self.rank].ravel().tolist()


class PairSampler(Sampler[Pair]):
    """Pairs of row numbers (real, fake).

    Every fake once an epoch, in an order of its own each epoch.
    Where several processes train they take turns, a batch each. The last batches are filled up with fakes
    from the beginning of the order, so that all batches of all processes are whole, and all steps have all
    their batches. So ``replicas`` processes see in each step what one that accumulates so many batches does.

    Args:
        faces: training rows; both labels.
        batch_pairs: pairs in a batch of one process.
        pairing: ``random`` draws any real crop (as published), ``source`` one of the video that the fake
            was made from, and any where that video has no crop.
        seed: same seed and epoch, same pairs.
        groups: (N,) group of each row. If given, fakes and random reals come in rounds that have each group
            once: an epoch is as long as without, but shows fakes of small groups more often than others.
        accumulate: batches of one process in a step of the optimiser.
        rank, replicas: this process among how many.
    """

    def __init__(
        self,
        faces: pd.DataFrame,
        batch_pairs: int,
        *,
        pairing: Literal["random", "source"] = "random",
        groups: NDArray[np.int64] | None = None,
        accumulate: int = 1,
        seed: int = 0,
        rank: int = 0,
        replicas: int = 1,
    ) -> None:
        self.reals = np.flatnonzero(faces["label"] == 0)
        self.fakes = np.flatnonzero(faces["label"] == 1)
        self.groups = groups
        self.sources = _source_rows(faces, self.reals) if pairing == "source" else None
        self.seed, self.rank, self.replicas = seed, rank, replicas
        self.batch_pairs = batch_pairs
        whole = batch_pairs * replicas * accumulate
        self.total = -(-len(self.fakes) // whole) * whole
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.total // self.replicas

    def __iter__(self) -> Iterator[Pair]:
        rng = np.random.default_rng([self.seed, self.epoch])
        fakes, reals = self._draw_pairs(rng)
        draws = rng.random(self.total)
        turns = np.arange(self.total).reshape(-1, self.replicas, self.batch_pairs)
        for position in turns[:, self.rank].ravel():
            fake, real = int(fakes[position]), int(reals[position])
            if self.sources is not None and len(rows := self.sources[fake]):
                real = int(rows[int(draws[position] * len(rows))])
            yield real, fake

    def _draw_pairs(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The fakes of an epoch in order, and a random real for each."""
        if self.groups is not None:
            return tuple(  # type: ignore[return-value]
                _draw_in_rounds(rows, self.groups[rows], self.total, rng) for rows in (self.fakes, self.reals)
            )
        fakes = np.resize(rng.permutation(self.fakes), self.total)
        return fakes, self.reals[rng.integers(len(self.reals), size=self.total)]


def _draw_in_rounds(
    rows: NDArray[np.int64], groups: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """``count`` of the rows in rounds that have each group once, in random order."""
    cells = [rows[groups == group] for group in np.unique(groups)]
    rounds = -(-count // len(cells))
    columns = [_reshuffle(cell, rounds, rng) for cell in cells]
    return rng.permuted(np.stack(columns, axis=1), axis=1).ravel()[:count]


def _fill_up(order: NDArray[np.int64], multiple: int) -> NDArray[np.int64]:
    """The order, followed by its own beginning up to a whole multiple."""
    return np.resize(order, -(-len(order) // multiple) * multiple)


def _reshuffle(rows: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """``count`` of the rows: whole passes, each shuffled again, the last one cut."""
    passes = [rng.permutation(rows) for _ in range(-(-count // len(rows)))]
    return np.concatenate(passes)[:count]


def _cells(faces: pd.DataFrame, groups: Sequence[str]) -> list[NDArray[np.int64]]:
    """Row numbers of every label within every group, in a fixed order."""
    if absent := [name for name in groups if name not in faces]:
        raise InputError(
            f"the faces table has no column {', '.join(absent)}; columns to balance are for example "
            "gender, age, skin_tone, race: join annotations with `unmasked scan annotations=…`"
        )
    known = faces[list(groups)].notna().all(axis=1).to_numpy() if groups else np.ones(len(faces), bool)
    if not known.any():
        raise InputError(
            f"none of the {len(faces)} rows has {' and '.join(groups) or 'a label'}: none can be balanced; "
            "join annotations with `unmasked scan annotations=…`"
        )
    if not known.all():
        logger.warning(
            "%d of %d rows are left out: they lack %s", (~known).sum(), len(faces), " or ".join(groups)
        )
    keys = ["label", *groups]
    rows = faces[keys].reset_index(drop=True)[known]
    cells = {key: members.index.to_numpy(np.int64) for key, members in rows.groupby(keys, observed=True)}
    members = sorted({key[1:] for key in cells}, key=str)
    for member in members:
        for label, kind in KIND.items():
            if (label, *member) not in cells:
                group = ", ".join(f"{name}={value}" for name, value in zip(groups, member, strict=True))
                raise InputError(
                    f"none of the {len(rows)} rows to balance is {kind}{group and f' and {group}'}; "
                    "a group without both would tell the label: add some, or balance by other columns"
                )
    return [cells[(label, *member)] for member in members for label in KIND]


def _source_rows(faces: pd.DataFrame, reals: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of real crops for every fake row: those of the video into which its face was put."""
    if "target_video" not in faces or faces.loc[faces["label"] == 1, "target_video"].isna().all():
        raise InputError(
            "pairing by source needs the column target_video, which these faces do not have; "
            "set data.pairing=random"
        )
    by_video: dict[tuple[str, str], list[int]] = {}
    for row in reals:
        name = str(faces["video"].iat[row])
        for named in {name, PurePosixPath(name).name}:
            by_video.setdefault((faces["dataset"].iat[row], named), []).append(int(row))
    sources = {}
    for row in np.flatnonzero(faces["label"] == 1):
        key = (faces["dataset"].iat[row], str(faces["target_video"].iat[row]))
        sources[int(row)] = np.array(by_video.get(key, []), dtype=np.int64)
    missing = sum(len(rows) == 0 for rows in sources.values())
    if missing == len(sources):
        raise InputError(
            "no fake's target_video is among the real videos of the training split; set data.pairing=random"
        )
    if missing:
        logger.warning(
            "%d of %d fakes have no crop of their source: any real is drawn", missing, len(sources)
        )
    return sources
