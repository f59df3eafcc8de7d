"""``unmasked scan``: dataset folders -> manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from unmasked.app.progress import print_result
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.datasets.vocabulary import Reading


def as_list(value: Any) -> Any:
    """A lone value as a list of one: ``root=A`` and ``root=[A,B]`` both work."""
    return value if value is None or isinstance(value, (list, tuple)) else [value]


Names = Annotated[tuple[str, ...] | None, BeforeValidator(as_list)]
AnnotationFiles = Annotated[
    tuple[Path, ...],
    BeforeValidator(as_list),
    Field(description="CSV or Parquet files with demographics to join: AI-Face, A-FF++, your own, …"),
]
Codebooks = Annotated[
    tuple[str, ...],
    BeforeValidator(as_list),
    Field(
        description="how to read them, for all or for each: auto looks; else a name in configs/annotations, "
        "or a YAML file"
    ),
]
Policy = Annotated[
    Literal["majority", "frame", "drop"],
    Field(description="where frames of a video disagree: their majority, each its own, or missing"),
]
JoinReportFile = Annotated[
    Path | None,
    Field(description="which rows were not annotated, not found, or disagree: .csv, .parquet or .json"),
]
AgeGroups = Annotated[
    tuple[float, ...],
    BeforeValidator(as_list),
    Field(description="ages in years become groups that begin at these: [18,30,50]; AI-Face's groups"),
]
NOT_THERE = "listed, but not there"
OPTIONS = (  # of some sources only
    "compression",
    "methods",
    "dataset",
    "split",
    "method",
    "variants",
    "targets",
    "lists",
    "crops",
    "labels_by",
    "columns",
    "one_means",
    "age_groups",
)


class Config(BaseModel):
    """What to scan and where the manifest goes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Annotated[tuple[Path, ...], BeforeValidator(as_list)] = Field(
        description="folder of a dataset, or a list of them: root=[FF,CDF]"
    )
    source: str = Field("auto", description="which reader; auto looks at the folder's layout")
    out: Path = Field(Path("manifest.parquet"), description="the manifest, .parquet or .csv")
    compression: Names = Field(
        None, description="FaceForensics++ and its like: only these, e.g. [c23]; all that are there"
    )
    methods: Names = Field(
        None, description="FaceForensics++: folders of manipulated_sequences, or all; the four of 2019"
    )
    variants: Names = Field(
        None, description="DeeperForensics: folders of manipulated_videos, or all; [end_to_end]"
    )
    targets: Path | None = Field(
        None, description="DeeperForensics: the FaceForensics++ folder with its real part; none"
    )
    lists: Names = Field(
        None, description="DeepfakeBench: its .json files by name; all that do not repeat others"
    )
    crops: Path | None = Field(None, description="DeepfakeBench: where its crops are; below the root")
    labels_by: Literal["group", "path"] | None = Field(
        None, description="DeepfakeBench: what tells real from fake where they contradict each other; refused"
    )
    columns: dict[str, str] | None = Field(
        None, description="table: its own names of columns, as columns={path: file}; the usual names"
    )
    one_means: Literal["fake", "real"] | None = Field(
        None, description="table: what the label 1 means, where words or paths contradict it; fake"
    )
    age_groups: AgeGroups = ()
    dataset: str | None = Field(None, description="folder and table: name of the dataset; that of the folder")
    split: Literal["train", "val", "test"] | None = Field(
        None, description="datasets without an official split: the split of what nothing else says; test"
    )
    official_split: bool = Field(
        True, description="false leaves a dataset's own split aside, so that split or split_fractions decide"
    )
    val_from_train: float = Field(
        0.0, description="share of train that becomes val where a dataset has none (Celeb-DF, DFDC, …); none"
    )
    split_by: Literal["auto", "stem", "file"] = Field(
        "auto",
        description="what stays together: people where known, files named alike but for a number, none",
    )
    split_seed: int | None = Field(
        None, description="datasets without an official split: split by person with this seed; as `split`"
    )
    split_fractions: tuple[float, float, float] | None = Field(
        None, description="shares of train, val and test in that; [0.7,0.15,0.15]"
    )
    splits: Path | None = Field(
        None, description="where such splits are frozen and found again; <out>.splits.json"
    )
    unused: Path | None = Field(
        None,
        description="where files that are in no row are listed, and listed ones that are not there: .csv; "
        "<out>.unused.csv",
    )
    faces: Path | None = Field(
        None, description="also write a faces table of what are face crops already (DeepfakeBench, AI-Face)"
    )
    method: str | None = Field(None, description="folder: what the fakes are called; fake")
    annotations: AnnotationFiles = ()
    codebook: Codebooks = ("auto",)
    policy: Policy = "majority"
    join_report: JoinReportFile = None


def run(config: Config) -> None:
    """Scans every root, joins the annotations, writes one manifest and prints what was found."""
    import pandas as pd

    from unmasked.datasets.listing import first_names
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.datasets.scan import Splitting, options_of, scan
    from unmasked.datasets.splits import FRACTIONS, SplitPlan
    from unmasked.datasets.tables import write_frame
    from unmasked.datasets.unused import label_word

    options = {name: value for name in OPTIONS if (value := getattr(config, name)) not in (None, ())}
    _check_out(config)
    taken = {root: (options_of(root, config.source) | {"split"}) & set(options) for root in config.root}
    of_annotations = {"age_groups"} if config.annotations else set()
    if unused := set(options) - of_annotations.union(*taken.values()):
        raise InputError(f"no root is of a source that takes {', '.join(sorted(unused))}; leave it out")
    plan = None
    if config.split_seed is not None or config.split_fractions is not None:
        plan = SplitPlan(config.split_fractions or FRACTIONS, config.split_seed or 0, config.split_by)
        if config.split is not None:
            raise InputError(f"split={config.split} and split_seed or split_fractions exclude each other")
    elif config.split_by != "auto":
        plan = SplitPlan(by=config.split_by)
    frozen = config.splits or config.out.with_suffix(".splits.json")
    splitting = Splitting(plan, frozen, config.official_split, config.val_from_train)
    manifests, not_used = [], []
    for root in config.root:
        chosen = {name: options[name] for name in taken[root]}
        result = scan(root, config.source, splitting=splitting, **chosen)
        print_readings(result.readings)
        for line in result.messages:
            print_result(line)
        manifests.append(result.manifest)
        absent = pd.DataFrame({"path": result.absent, "reason": NOT_THERE})
        not_used += [part.assign(root=str(result.root)) for part in (result.unused.rows, absent)]
    manifest = pd.concat(manifests, ignore_index=True)
    if config.annotations:
        manifest = join_annotations(
            manifest,
            config.annotations,
            config.codebook,
            policy=config.policy,
            report=config.join_report,
            age_groups=config.age_groups,
        )
    MANIFEST.write(manifest, config.out)
    for line in _unknown_groups(manifest):
        print_result(line)
    listed = pd.concat(not_used, ignore_index=True)
    # Written also where nothing is left out: a file of an earlier scan would speak of other files.
    unused_file = config.unused or config.out.with_suffix(".unused.csv")
    write_frame(listed.assign(**{"class": listed["path"].map(label_word)}), unused_file)
    if len(listed):
        gone = int((listed["reason"] == NOT_THERE).sum())
        what = [*(["in no row"] if gone < len(listed) else []), *(["listed and not there"] if gone else [])]
        print_result(f"files that are {' or '.join(what)}, by name: {unused_file}")
    names = first_names(manifest["dataset"].drop_duplicates())  # as `dataset=` of other commands has them
    print_result(f"{len(manifest)} rows of {names} written to {config.out}")
    if config.faces:
        _write_faces(manifest, config.faces)


def print_readings(readings: list[Reading]) -> None:
    """Prints what was taken for granted about a table, a line each; nothing where nothing was."""
    if not readings:
        return
    width = min(34, max(len(what) for what, _ in readings))
    print_result("read as:")
    for what, how in readings:
        print_result(f"  {what:{width}}  {how}")


def _check_out(config: Config) -> None:
    """Refuses to write over what is read.

    Raises:
        InputError: a file to be written is a root, the table that it holds, or one of the annotation files.
    """
    from unmasked.datasets.scan import table_read

    read = {path.resolve() for path in (*config.root, *config.annotations)}
    tables = {path.resolve() for root in config.root if (path := table_read(root, config.source))}
    for name in ("out", "unused", "faces", "join_report"):
        path = getattr(config, name)
        if path is not None and path.resolve() in read:
            raise InputError(
                f"{name}={path} is a file that is read here; give another name for what is written"
            )
        if path is not None and path.resolve() in tables:
            raise InputError(
                f"{name}={path} is the table that is read in its folder: give another name for what is "
                "written, or, to look at the folder's files anew, remove it if an earlier scan wrote it"
            )


def _unknown_groups(manifest: pd.DataFrame) -> list[str]:
    """A line on the rows that have no group, where some have one."""
    from unmasked.datasets.manifest import DEMOGRAPHICS

    unknown = {name: int(manifest[name].isna().sum()) for name in DEMOGRAPHICS}
    listed = [f"{name} {count}" for name, count in unknown.items() if 0 < count < len(manifest)]
    return [f"rows whose group is unknown, of {len(manifest)}: {', '.join(listed)}"] if listed else []


def _write_faces(manifest: pd.DataFrame, out: Path) -> None:
    from unmasked.preprocessing.ready import faces_of_crops

    statuses = faces_of_crops(manifest, out)["status"].value_counts()
    listed = ", ".join(f"{count} {status}" for status, count in statuses.items())
    print_result(f"{statuses.sum()} crops written to {out}: {listed}")


def join_annotations(
    table: pd.DataFrame,
    files: tuple[Path, ...],
    codebooks: tuple[str, ...],
    *,
    policy: str,
    report: Path | None,
    age_groups: tuple[float, ...] = (),
) -> pd.DataFrame:
    """The table with the files' annotations; prints what was joined and writes it on request."""
    from unmasked.datasets.demographics import join_files
    from unmasked.datasets.join_report import write_reports

    readings: list[Reading] = []
    table, reports = join_files(
        table, files, codebooks, policy=policy, age_groups=age_groups, readings=readings
    )
    print_readings(readings)
    for each in reports:
        print_result(f"annotations, {each}")
        if policy == "frame" and "frame" not in table and any(each.conflicts.values()):
            print_result(
                "  whose frames disagree is missing here; unmasked annotate gives each row of a faces or "
                "predictions table the annotation of its frame"
            )
    if report:
        write_reports(reports, report)
        print_result(f"what was not joined, row by row: {report}")
    return table
