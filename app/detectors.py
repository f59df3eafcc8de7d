"""The one door to detectors: ours by name, a user's own module by import path or file.

The folders are the registry: a folder's ``detector.py``, and every module of ``baselines`` that has a
``NAME``; the file's name is the name. A card that comes with a checkpoint may name one of these. It never
makes us import anything else: a module of one's own is imported where its user names it, and only there.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unmasked.datasets.errors import InputError, nearest_name

if TYPE_CHECKING:
    from os import PathLike

    from unmasked.training.config import DetectorConfig
    from unmasked.training.detector import Scorer
    from unmasked.training.handle import Detector

DEFAULT = "ucf"
ROOT = Path(__file__).parents[1]
CONTRACT = "docs/own_detector.md shows what a detector's module has"


def registry() -> dict[str, str]:
    """Import paths of our detectors by name."""
    folders = {
        path.parent.name: f"unmasked.{path.parent.name}.detector" for path in ROOT.glob("*/detector.py")
    }
    found = {name: path for name, path in folders.items() if name != "training"}  # that one is the contract
    for path in sorted((ROOT / "baselines").glob("*.py")):
        if re.search(r"^NAME\b", path.read_text(encoding="utf-8"), flags=re.MULTILINE):
            found[path.stem] = f"unmasked.baselines.{path.stem}"
    return found


def find(name: str) -> Detector:
    """The detector of a name, of an import path, or of a ``.py`` file.

    Raises:
        InputError: there is none, its module cannot be imported, or lacks what the contract asks for.
    """
    from unmasked.training.config import DetectorConfig, TrainedConfig
    from unmasked.training.handle import Detector

    known = registry()
    detector = Detector(name, known[name]) if name in known else _own(name, known)
    module = detector.module
    given = {part for part in ("NAME", "Config", "build", "fit", "read") if hasattr(module, part)}
    wanted = {"NAME", "Config", "build"} if "fit" not in given else {"NAME", "Config", "fit", "read"}
    if absent := sorted(wanted - given):
        raise InputError(f"detector={name} has no {', '.join(absent)}; {CONTRACT}")
    base = TrainedConfig if detector.has_gradients else DetectorConfig
    if not (isinstance(module.Config, type) and issubclass(module.Config, base)):
        kind = "CropConfig or PairConfig" if detector.has_gradients else base.__name__
        raise InputError(
            f"detector={name} has a Config that does not derive from unmasked.training.config's {kind}; "
            f"{CONTRACT}"
        )
    return detector


def config_class(name: str) -> type[DetectorConfig]:
    """The class of a detector's settings; ours are imported without torch where they can be.

    Raises:
        InputError: see `find`.
    """
    path = registry().get(name, "")
    if path.endswith(".detector"):
        return importlib.import_module(path.removesuffix("detector") + "config").Config
    return find(name).config


def load(path: str | PathLike[str], detector: str = "") -> tuple[Scorer, dict[str, Any]]:
    """A trained detector on the CPU and its card; the card says which detector it is.

    Args:
        path: a file of weights with its card beside it, or the folder of both.
        detector: import path or file of the user's own module, where it is the checkpoint's.

    Raises:
        InputError: the files cannot be used, or are of another detector than the one that was given, or of
            a module that was not.
    """
    from unmasked.training import checkpoint

    name = checkpoint.read_card(path)["architecture"]
    known = registry()
    if detector:
        found = find(detector)
        if found.name != name:
            # Ours are found by name alone; a module of the user's own has to be named.
            fitting = "leave detector out" if name in known else f"give the module called {name}"
            raise InputError(
                f"checkpoint {path} is of the detector {name!r}, and detector={detector} was given; "
                f"{fitting}, or give a checkpoint of {found.name}"
            )
        return checkpoint.load(found, path)
    if not isinstance(name, str) or name not in known:
        raise InputError(
            f"checkpoint {path} is of the detector {name!r}, which is none of ours ({', '.join(known)}): "
            f"if it is a module of your own, give its import path or file too, as detector={name}.py "
            "(a card alone makes us import nothing)"
        )
    return checkpoint.load(find(name), path)


def folder_name(name: str) -> str:
    """The name of a detector's folder of runs: the last part of an import path."""
    return Path(name).stem if name.endswith(".py") else name.rsplit(".", 1)[-1]


def _own(name: str, known: dict[str, str]) -> Detector:
    from unmasked.training.handle import Detector

    file = Path(name) if name.endswith(".py") else None
    if file is not None and not file.is_file():
        raise InputError(f"detector={name} does not exist; give the path of a Python file, or an import path")
    module = file.stem if file is not None else name
    if module in known or not re.fullmatch(r"\w+(\.\w+)*", module):
        reason = "has the name of one of ours" if module in known else "is no name of a module"
        raise InputError(f"detector={name} {reason}; give it another one, of letters, digits and _")
    # Last in line, so that a file there hides no module of ours; other processes get the same paths.
    place = str(file.resolve().parent if file is not None else Path.cwd())
    if place not in sys.path:
        sys.path.append(place)
    importlib.invalidate_caches()
    try:
        imported = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise InputError(f"detector={name} imports {error.name}, which is not installed") from error
        near = nearest_name(name, known, cutoff=0.4)
        advice = f"did you mean {near!r}?" if near else f"ours are {', '.join(known)}"
        raise InputError(
            f"detector={name} is neither one of ours nor a module that Python finds from here; {advice}"
        ) from error
    except Exception as error:  # whatever a module of the user's own raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise InputError(
            f"detector={name} cannot be imported ({type(error).__name__}: {reason}); correct the module"
        ) from error
    if file is not None and Path(str(getattr(imported, "__file__", ""))).resolve() != file.resolve():
        raise InputError(
            f"detector={name} has the name of another module, {imported.__file__}; rename the file"
        )
    return Detector(module, module)
