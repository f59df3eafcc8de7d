"""``unmasked ensemble``: predictions of several detectors -> those of their ensemble."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zipfile import BadZipFile

from pydantic import BeforeValidator, ConfigDict, Field

from unmasked.app.inputs import Faces
from unmasked.app.progress import print_result
from unmasked.app.verbs.reading import ReadAs, print_rows, read_scores
from unmasked.app.verbs.scan import as_list

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from unmasked.evaluation.counts import Array
    from unmasked.evaluation.ensemble_tables import Made
    from unmasked.evaluation.machine import Machine
    from unmasked.evaluation.records import EnsembleResults

MACHINE = "machine.npz"  # beside the card: what meta=svc learnt
CROP_KEY = ("dataset", "video", "compression", "frame", "face")
Paths = Annotated[tuple[Path, ...], BeforeValidator(as_list)]


def _as_texts(value: Any) -> Any:
    """A number among file names is read as a number, and kept as text here."""
    listed = as_list(value)
    return [str(one) for one in listed] if isinstance(listed, (list, tuple)) else listed


Texts = Annotated[tuple[str, ...], BeforeValidator(_as_texts)]


class Config(ReadAs):
    """Whose scores are put together, and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    predictions: Paths = Field(
        description="tables of scores or runs' folders, one a member: predictions=[A,B,C]; or one folder of "
        "several"
    )
    out: Path = Field(
        Path("runs/ensemble"),
        description="folder for predictions.parquet, detector.json (the card), ensemble.json, ensemble.md",
    )
    method: Literal["mean", "majority", "weighted", "stacking"] = Field(
        "mean", description="weighted and stacking are fitted, on validation rows"
    )
    scale: Literal["probability", "logit"] = Field("probability", description="of what a mean is taken")
    weights: Literal["simplex", "inverse"] = Field(
        "simplex",
        description="of method=weighted: of least log loss (simplex), or 1 / log loss of each (inverse)",
    )
    meta: Literal["logistic", "mlp", "svc"] = Field(
        "logistic",
        description="of method=stacking: logistic and mlp on logits, svc on 100 principal components of the "
        "members' features, which wants faces= and members that are runs' folders",
    )
    faces: Faces | None = Field(None, description="of meta=svc: the faces table that the members scored")
    thresholds: Texts = Field(
        (),
        description="of method=majority: a number, thresholds.json or card a member; what is stored with "
        "each if not given",
    )
    missing: Literal["error", "drop"] = Field(
        "error", description="what becomes of a row that a member lacks; nothing is ever filled in"
    )
    level: Literal["row", "video"] = Field(
        "row", description="put single rows together, or the mean scores of videos"
    )
    fit_on: Paths = Field(
        (), description="the members' scores to fit on, in the same order; else rows of the split val"
    )
    source: str = Field("", description="dataset whose val rows are fitted on, where several have such rows")
    stored: Path | None = Field(
        None, description="detector.json of an ensemble of the same members, to be applied as it is"
    )
    n_boot: int = Field(2000, ge=0, description="bootstrap resamples behind each interval")
    seed: int = Field(0, ge=0, description="seed of the folds, of the MLP and of the resampling")


def run(config: Config) -> None:
    """Writes the ensemble's predictions and card, and prints it beside its members."""
    from unmasked.datasets.documents import read_json
    from unmasked.evaluation.direction import reversals
    from unmasked.evaluation.ensemble_tables import Settings, left_out_rows_of, make_ensemble, read_members
    from unmasked.evaluation.ensembles import Rule
    from unmasked.evaluation.predictions import evaluated_rows
    from unmasked.evaluation.row_counts import RowCount

    read = partial(read_scores, config)
    rule = Rule(config.method, config.scale, config.weights, config.meta, config.seed)
    advice = "give the detector.json that `unmasked ensemble` wrote"
    stored = read_json(config.stored, advice, what="card") if config.stored else None
    count = RowCount()
    members = read_members(config.predictions, config.thresholds, read=partial(read, count=count))
    settings = Settings(
        rule, config.missing, config.level, config.source, n_boot=config.n_boot, seed=config.seed
    )
    fit_on = read_members(config.fit_on, read=read) if config.fit_on else []
    made = make_ensemble(
        members,
        settings,
        fit_on=fit_on,
        stored=stored,
        features=partial(_features, config.faces, config.predictions) if config.faces else None,
        machine=_read_machine(config.stored, stored),
    )
    _write(config.out, made)
    count.leave_out({"that not every member has": left_out_rows_of(members, made, config.level)})
    print_rows(count)
    _print(made.results)
    for member in members:
        for doubt in reversals(evaluated_rows(member.scored.predictions)):
            print_result(f"  NOTE on {member.name}, {doubt}")
    print_result(f"scores: {config.out / 'predictions.parquet'}; differences: {config.out / 'ensemble.md'}")


def _features(faces: Path, folders: Sequence[Path], rows: pd.DataFrame) -> Array:
    """(N, F) the features of the rows' crops by all members, side by side."""
    import numpy as np

    from unmasked.app.detectors import load
    from unmasked.app.inputs import check_inputs, read_faces
    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.predict import features

    found = []
    for folder in folders:
        check_inputs(faces=faces, checkpoint=folder)
        model, card = load(folder)
        if not hasattr(model, "features"):
            raise InputError(
                f"{folder} is of {card['architecture']}, which has no features; take meta=logistic"
            )
        table = read_faces(faces)
        keys = [name for name in CROP_KEY if name in rows and name in table]
        place = table.reset_index().merge(rows[keys].assign(row=range(len(rows))), on=keys, validate="1:1")
        if len(place) < len(rows) or place["crop"].isna().any():
            raise InputError(
                f"{len(rows) - int(place['crop'].notna().sum())} of {len(rows)} scored rows have no crop in "
                f"{faces}; give the faces table that the members scored"
            )
        crops = table.iloc[place.sort_values("row")["index"]].reset_index(drop=True)
        found.append(features(model.features, crops, faces.parent, size_px=card["size_px"])[1])
    return np.hstack(found).astype(np.float64)


def _read_machine(path: Path | None, stored: Mapping[str, Any] | None) -> Machine | None:
    """The numbers beside a stored card that names them."""
    import numpy as np

    from unmasked.datasets.errors import InputError
    from unmasked.evaluation.machine import Machine

    ensemble = (stored or {}).get("ensemble")
    if path is None or not isinstance(ensemble, dict) or not ensemble.get("machine"):
        return None
    try:
        with open(path.with_name(MACHINE), "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Machine.from_arrays(arrays)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise InputError(
            f"{path.with_name(MACHINE)} cannot be used ({error}); it is written beside {path.name} by "
            "`unmasked ensemble`: keep both together"
        ) from error


def _write(out: Path, made: Made) -> None:
    import numpy as np

    from unmasked.datasets.documents import write_json
    from unmasked.datasets.files import atomic_path, write_text
    from unmasked.evaluation.ensemble_tables import ensemble_table
    from unmasked.evaluation.predictions import PREDICTIONS
    from unmasked.evaluation.tables import as_latex, as_markdown

    PREDICTIONS.write(made.predictions, out / "predictions.parquet")
    if made.machine is not None:
        with atomic_path(out / MACHINE) as path, open(path, "wb") as file:
            arrays: dict[str, Any] = made.machine.arrays()
            np.savez(file, **arrays)
    write_json(out / "detector.json", made.card)
    write_json(out / "ensemble.json", made.results)
    table = ensemble_table(made.results)
    write_text(out / "ensemble.md", as_markdown([table]))
    write_text(out / "ensemble.tex", as_latex([table]))


def _print(results: EnsembleResults) -> None:
    from unmasked.evaluation.wording import value_text

    print_result(f"{results['rule']} of {', '.join(results['members'])}: {results['rows']} rows")
    for name, count in results["dropped"].items():
        print_result(f"  {name} lacks {count} rows that others have: left out of all")
    if results["weights"]:
        listed = zip(results["members"], results["weights"], strict=True)
        print_result(f"  weights: {', '.join(f'{name} {weight:.3f}' for name, weight in listed)}")
    for note in results["notes"]:
        print_result(f"  {note}")
    for name, block in results["datasets"].items():
        counts = f"{block['real_videos']} real and {block['fake_videos']} fake videos evaluated"
        if not (block["real_videos"] and block["fake_videos"]):
            print_result(f"dataset {name}, {counts}: one class alone has no AUC; the scores were written")
            continue
        first = block["against"][0]["metrics"]["auc"]
        value = value_text(first["a"], first["a_ci"], places=3)
        print_result(f"dataset {name}, {counts}: video AUC {value}")
        for one in block["against"]:
            auc = one["metrics"]["auc"]
            difference = value_text(auc["difference"], auc["difference_ci"], places=3, plus=True)
            print_result(
                f"  against {one['name']} ({value_text(auc['b'], places=3)}): {difference}  "
                f"{one['readings']['auc']}"
            )
