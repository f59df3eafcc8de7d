"""unmasked: does a deepfake detector hold up on data it never saw, and for whom does it fail?

Frames in, records out, and shown as tables in a notebook::

    import unmasked
    scores = unmasked.read_scores("scores.csv")  # dataset, video, label (1 = fake), score = P(fake)
    unmasked.evaluate(scores)
    unmasked.audit(scores, by=["gender"])
    detector = unmasked.load_detector("runs/ucf")
    unmasked.inspect("clip.mp4", detector, out="case")

What these do is in `unmasked.app.door`; nothing heavy is imported before one of them is asked for. The
folders beside this file are the layers, namespace packages without a file of this name.
"""

from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _NotInstalled
from importlib.metadata import version as _version

__all__ = ["audit", "evaluate", "inspect", "load_detector", "read_scores"]

try:
    __version__ = _version("unmasked")
except _NotInstalled:  # a checkout on the path
    __version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(_import_module("unmasked.app.door"), name)
    raise AttributeError(f"module 'unmasked' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
