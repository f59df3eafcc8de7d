"""The layers of the house: imports point down only."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up. A layer may import itself and the floors below it; siblings on one floor do not import
# one another. Layers that are still to come may be absent.
FLOORS = [
    {"datasets"},
    {"preprocessing"},
    {"evaluation"},
    {"fairness"},
    {"analysis"},
    {"training"},
    {"inspection", "ucf", "baselines", "generation"},
    {"serving"},
    {"app"},
]
LAYERS = [layer for floor in FLOORS for layer in sorted(floor)]
FILES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))
# What a training or scoring machine need not have.
HEAVY = {
    "fairness": {"torch"},
    "training": {"dlib", "fairlearn", "anny"},
    "ucf": {"dlib", "fairlearn", "anny"},
    "baselines": {"dlib", "fairlearn", "anny"},
    "evaluation": {"dlib", "fairlearn", "anny"},
}


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, (
                f"{path} imports relatively; write `from unmasked.<layer>.<module> import …`"
            )
            names.add(node.module or "")
    return names


def allowed_imports(layer: str) -> list[str]:
    floor = next(number for number, siblings in enumerate(FLOORS) if layer in siblings)
    return [name for siblings in FLOORS[:floor] for name in sorted(siblings)] + [layer]


def test_siblings_do_not_import_one_another_and_detectors_stand_on_the_engine():
    assert not {"baselines", "generation", "inspection"} & set(allowed_imports("ucf"))
    assert not {"ucf", "generation", "inspection"} & set(allowed_imports("baselines"))
    assert "training" in allowed_imports("ucf")
    assert "ucf" not in allowed_imports("training")
    assert {"ucf", "baselines", "generation", "inspection"} < set(allowed_imports("app"))
    serving = {name for path in FILES if "serving" in path.parts for name in imported_modules(path)}
    assert not [name for name in serving if name.startswith(("unmasked.ucf", "unmasked.baselines"))]


def test_the_engine_names_no_detector():
    detectors = [path.parent.name for path in ROOT.glob("*/detector.py") if path.parent.name != "training"]
    detectors += [path.stem for path in (ROOT / "baselines").glob("*.py")]
    assert "ucf" in detectors
    names = re.compile(rf"\b({'|'.join(map(re.escape, detectors))})\b", re.IGNORECASE)
    for path in sorted((ROOT / "training").rglob("*.py")):
        found = names.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path} names the detector {found[0]!r}; what is its own belongs into its module"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down_only(path):
    layer = path.relative_to(ROOT).parts[0]
    allowed = allowed_imports(layer)
    for name in imported_modules(path):
        first, *rest = name.split(".")
        if first == "unmasked":
            assert rest, f"{path} imports the package itself; name the module"
            assert rest[0] in allowed, (
                f"{path} is in the layer {layer!r} and imports {name!r}, which is not below it; "
                f"{layer} may import {', '.join(allowed)}"
            )
        assert first not in LAYERS, f"{path} imports {name!r}; write unmasked.{name}"
        assert first not in HEAVY.get(layer, set()), f"{layer} must run without {first}, which {path} imports"


def test_no_modules_import_one_another_in_a_circle():
    """Imports inside functions count; `graphlib` raises CycleError with the circle."""
    modules = {f"unmasked.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}": path for path in FILES}
    arrows: dict[str, set[str]] = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        checks = [node for node in ast.walk(tree) if isinstance(node, ast.If)]
        for_types = {
            id(inner) for node in checks if "TYPE_CHECKING" in ast.dump(node.test) for inner in ast.walk(node)
        }
        froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        named = {
            (node.module, alias.name) for node in froms if id(node) not in for_types for alias in node.names
        }
        arrows[name] = {f"{module}.{one}" for module, one in named} | {str(module) for module, _ in named}
    order = TopologicalSorter({name: found & modules.keys() for name, found in arrows.items()})
    assert len(list(order.static_order())) == len(modules)


def test_layers_carry_no_init_file():
    found = [str(path.relative_to(ROOT)) for layer in LAYERS for path in (ROOT / layer).rglob("__init__.py")]
    assert not found, f"{found} would hide or overwrite other packages of the same name; remove them"


def test_top_level_is_what_the_owner_asked_for():
    allowed = {*LAYERS, "configs", "tests", "docs", "benchmarks", "build", "unmasked.egg-info"}
    folders = {path.name for path in ROOT.iterdir() if path.is_dir() and (path / "..").exists()}
    code = {name for name in folders if not name.startswith(".") and any((ROOT / name).rglob("*.py"))}
    assert code - allowed == set(), f"new top-level packages: {sorted(code - allowed)}"
