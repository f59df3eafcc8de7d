"""`unmasked serve` for tests: the command itself, with another process that looks at files.

``python serving_fakes.py quick …`` has one without a detector: a file is done at once, unless its name says
otherwise. ``python serving_fakes.py whole …`` has the real one, which takes bright squares for faces.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection

from unmasked.inspection.records import PAGE
from unmasked.serving.bench import Cancel, Order, Plan, Word
from unmasked.serving.jobs import CASE

DESCRIPTION = {
    "detector": "Quick",
    "architecture": "none",
    "sha256": "0" * 64,
    "threshold": 0.5,
    "band": None,
    "performance": [],
    "sentences": [],
    "frames": 32,
    "has_maps": False,
}


def quick_bench(connection: Connection, plan: Plan) -> None:
    """Ends at a file called die…, waits for a word at wait…, fails for fail…, and is done with any other."""
    connection.send(Word("ready", content=DESCRIPTION))
    while True:
        try:
            order: Order | Cancel = connection.recv()
        except EOFError:
            return
        if isinstance(order, Cancel):
            connection.send(Word("failed", order.job, "nobody wants it"))
            continue
        connection.send(Word("stage", order.job, "finding faces"))
        name = order.file.name
        if name.startswith("die"):
            time.sleep(0.1)
            os._exit(11)
        if name.startswith("fail"):
            connection.send(Word("failed", order.job, "ValueError: it failed"))
        elif not name.startswith("wait"):
            (order.folder / CASE).mkdir()
            (order.folder / CASE / PAGE).write_text("<p>a page</p>")
            connection.send(Word("done", order.job))


def main(kind: str, arguments: list[str]) -> None:
    """Runs the command with another process behind it."""
    from preprocessing_fakes import SquareDetector

    from unmasked.app.cli import app
    from unmasked.serving import dispatch, server

    if kind == "quick":
        dispatch.serve_bench = quick_bench
    real = server.serve
    server.serve = lambda plan, *given, **named: real(
        replace(plan, face_detector=SquareDetector, **({"depth": 1} if kind == "quick" else {})),
        *given,
        **named,
    )
    app(["serve", *arguments])


if __name__ == "__main__":
    # By its own name, so that other processes find what is in it.
    import serving_fakes

    serving_fakes.main(sys.argv[1], sys.argv[2:])
