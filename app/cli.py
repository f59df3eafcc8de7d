"""The command ``unmasked``: one verb for each stage from raw videos to the report.

Nothing heavy is imported before a verb is known: ``unmasked --help`` answers at once.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from unmasked.datasets.errors import InputError, InterruptedBySignal, printable

if TYPE_CHECKING:
    from pydantic import BaseModel

TYPED = "unmasked.typed"  # where a command keeps its arguments as they were typed
# verb: what it does, in the order in which a study uses them.
VERBS = {
    "demo": "Run the whole flow on a synthetic corpus: videos, training, evaluation, fairness, report.",
    "scan": "Read a dataset's folder into a manifest, and say what was found against the official counts.",
    "annotate": "Join demographic annotations to a manifest, faces or predictions table.",
    "audit": "Look for leaks between splits, near-duplicate crops, and shortcuts to the label.",
    "preprocess": "Find, align and crop the faces of a manifest's videos and images.",
    "export-crops": "Write crops as an LMDB with lists, as DeepfakeBench reads them.",
    "join": "Put faces tables, or predictions tables, together into one.",
    "augment": "Show the recipes of random changes that training images go through.",
    "detectors": "List the detectors: paper, licence, input, numbers that train, where weights come from.",
    "train": "Train a detector on a faces table.",
    "tune": "Search for better settings of the training, on source validation.",
    "import-checkpoint": "Read weights from elsewhere (.pth) into a detector, without running their code.",
    "export-checkpoint": "Write a detector's weights as a flat file (.pth) for other tools.",
    "export-onnx": "Write a detector as an ONNX file: pixels in, scores out.",
    "predict": "Score every face crop with a trained detector.",
    "ensemble": "Put the scores of several detectors together into those of their ensemble.",
    "evaluate": "Compute metrics with intervals and the cross-dataset matrix from predictions.",
    "threshold": "Find the threshold that keeps false alarms within a limit, and say what it costs.",
    "compare": "Compare two runs on the same videos, and say what is unlike between them.",
    "fairness": "Compare error rates between demographic groups, with tests that hold.",
    "plan": "Say how many people it takes to find a difference between groups, or what a table can find.",
    "mitigate": "Try to close a gap between groups: before and after, what it costs, and who pays.",
    "generate": "Train a generator of faces (generate train), or make images with one, as a dataset.",
    "fid": "Say how far two sets of images are apart: Fréchet and kernel distance, with a floor.",
    "explain": "Draw what speaks for “fake” in pictures, each method tested, and a t-SNE map of features.",
    "report": "Put a run folder together into one self-contained HTML page.",
    "inspect": "Look at one video or picture: a finding with known error rates, or a refusal; a case folder.",
    "verify": "Run a case of `inspect` again and say what differs; exit code 1 where anything does.",
    "serve": "Look at files that are sent: a page in the browser, and an interface for other programs.",
    "licences": "List the terms of every model, weight and dataset that a command can touch.",
}

# Keys that may be given without their name, in this order.
POSITIONAL = {"inspect": ("file",), "verify": ("case", "file"), "generate": ("action",)}

# Verbs without networks: what waits to be collected there is small.
OF_TABLES = ("evaluate", "threshold", "compare", "fairness", "plan", "report")

USAGE = (
    "Does a deepfake detector hold up on data it never saw, and for whom does it fail? "
    "Every verb takes `--config FILE` and `key=value` arguments (`--key` for `key=true`); "
    "`unmasked VERB --help` lists the keys."
)

app = typer.Typer(
    name="unmasked", help=USAGE, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"unmasked {importlib.import_module('unmasked').__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


class VerbCommand(TyperCommand):
    """A command whose help ends with the table of keys that its configuration takes."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keeps what was typed: which keys there are depends on the detector."""
        ctx.meta[TYPED] = list(args)
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints typer's help, then the keys."""
        try:
            verb = str(ctx.info_name)
            model = config_class(verb_module(verb), *_typed(verb, ctx.meta.get(TYPED, [])))
        except InputError as error:
            typer.echo(f"unmasked {ctx.info_name}: {printable(error)}", err=True)
            raise typer.Exit(2) from None
        super().format_help(ctx, formatter)
        _print_keys(model)


def verb_module(verb: str) -> ModuleType:
    """The module with a verb's `Config` and its `run`."""
    return importlib.import_module(f"unmasked.app.verbs.{verb.replace('-', '_')}")


def config_class(module: ModuleType, file: Path | None, arguments: list[str]) -> type[BaseModel]:
    """The keys of a verb; those of a training depend on which detector is named."""
    from unmasked.app.config import given_values

    if not hasattr(module, "config_of"):
        return module.Config
    chosen = given_values(file, arguments).get(getattr(module, "CHOSEN_BY", "detector"))
    return module.config_of(chosen)


def _typed(verb: str, arguments: list[str]) -> tuple[Path | None, list[str]]:
    """The configuration file and the key=value arguments of a command line that was not parsed yet."""
    files = [argument.removeprefix("--config=") for argument in arguments if argument.startswith("--config=")]
    files += [after for before, after in pairwise(arguments) if before == "--config"]
    given = [
        argument
        for before, argument in pairwise(["", *arguments])
        if before != "--config" and (not argument.startswith("--") or "=" in argument)
    ]
    given = [argument for argument in given if not argument.startswith("--config=")]
    return Path(files[0]) if files else None, _name_arguments(verb, given)


def _print_keys(model: type[BaseModel]) -> None:
    from rich.console import Console
    from rich.table import Table

    from unmasked.app.config import keys

    table = Table(title="Keys", title_justify="left", box=None, pad_edge=True, title_style="bold")
    for heading in ("key", "type", "default", "meaning"):
        # A key that is broken over two lines cannot be copied.
        table.add_column(heading, overflow="fold", no_wrap=heading == "key")
    for row in keys(model):
        table.add_row(*(text.replace("[", r"\[") for text in row))
    Console().print(table)


def _command(verb: str) -> Callable[..., None]:
    # Beside the signature, whose annotations typer evaluates where `verb` is not known.
    given = typer.Argument(None, metavar=_metavar(verb), show_default=False)

    def run(
        arguments: list[str] | None = given,
        config: Annotated[Path | None, typer.Option(help="YAML file, or a shipped one by name.")] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the resolved configuration only.")
        ] = False,
    ) -> None:
        _run(verb, config, arguments or [], dry_run)

    return run


def _metavar(verb: str) -> str:
    return " ".join([*(f"[{name.upper()}]" for name in POSITIONAL.get(verb, ())), "KEY=VALUE"])


def _name_arguments(verb: str, arguments: list[str]) -> list[str]:
    """The arguments as ``key=value``; a verb's file may come without its key.

    Raises:
        InputError: more come without one.
    """
    allowed = POSITIONAL.get(verb, ())
    names = iter(allowed)
    named = []
    for argument in arguments:
        # A file may be called a=b.mp4. (Unlike Path.exists, no error for a name that is too long.)
        is_bare = not argument.startswith("--") and ("=" not in argument or os.path.exists(argument))
        key = next(names, None) if is_bare else None
        if is_bare and allowed and key is None:
            raise InputError(
                f"{argument!r} is one more than may stand without a key ({', '.join(allowed)}); for several "
                "files give a folder that holds them, and quote a name with spaces"
            )
        named.append(
            _as_key_value(argument) if key is None else f"{key}={json.dumps(argument, ensure_ascii=False)}"
        )
    return named


def _as_key_value(argument: str) -> str:
    """``--preview`` as ``preview=true``, ``--seed=1`` as ``seed=1``; anything else as it is."""
    if not argument.startswith("--"):
        return argument
    name, separator, value = argument[2:].partition("=")
    return f"{name.replace('-', '_')}={value if separator else 'true'}"


def _run(verb: str, config: Path | None, arguments: list[str], dry_run: bool) -> None:
    from unmasked.app.signals import advice_after_signal, stopped_by_signals

    try:
        with stopped_by_signals(advice_after_signal(verb)):
            _load_and_run(verb, config, _name_arguments(verb, arguments), dry_run)
    except InputError as error:
        typer.echo(f"unmasked {verb}: {printable(error)}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        from unmasked.app.outputs import SYSTEM_ERRORS, system_sentence

        if error.errno not in SYSTEM_ERRORS:
            raise
        typer.echo(f"unmasked {verb}: {printable(system_sentence(error))}", err=True)
        raise typer.Exit(2) from None
    except InterruptedBySignal as stopped:
        typer.echo(f"unmasked {verb}: {stopped}", err=True)
        raise typer.Exit(128 + stopped.number) from None
    except KeyboardInterrupt:
        typer.echo(f"unmasked {verb}: stopped", err=True)
        raise typer.Exit(130) from None


def _load_and_run(verb: str, config: Path | None, arguments: list[str], dry_run: bool) -> None:
    from unmasked.app.config import load, to_yaml
    from unmasked.app.outputs import check_paths, only_one_writes

    module = verb_module(verb)
    if hasattr(module, "check_first") and not dry_run:
        module.check_first(config, arguments)
    resolved = load(config_class(module, config, arguments), config, arguments)
    if dry_run:
        typer.echo(to_yaml(resolved), nl=False)
        return
    check_paths(resolved)
    if hasattr(resolved, "check_first"):
        resolved.check_first()
    # Without the name of our module, which tells a user nothing.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    with only_one_writes(verb, resolved):
        module.run(resolved)


for _name, _help in VERBS.items():
    app.command(_name, cls=VerbCommand, help=_help, context_settings={"ignore_unknown_options": True})(
        _command(_name)
    )


def main() -> None:
    """Entry point of the command ``unmasked``."""
    if sys.argv[1:2] and sys.argv[1] in OF_TABLES:
        # By default 700 new objects start a search for garbage, and what imports make is none.
        gc.set_threshold(20_000)
    try:
        app(prog_name="unmasked")
    finally:
        # Python's own end is left: a signal must not give finished work the exit code of a stopped one.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
