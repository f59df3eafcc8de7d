"""``unmasked audit``: manifest and crops -> what would make results too good, or wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field

from unmasked.app.inputs import FACES_FILE, faces_file, read_faces
from unmasked.app.progress import Reporter, print_result
from unmasked.app.verbs.scan import as_list
from unmasked.datasets.audit.settings import AuditSettings
from unmasked.datasets.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from unmasked.datasets.audit.run import Audit


class Config(AuditSettings):
    """What is audited, and where the report goes."""

    manifest: Path = Field(Path("manifest.parquet"), description="what `unmasked scan` wrote")
    faces: Annotated[tuple[Path, ...], BeforeValidator(as_list)] = Field(
        (), description="faces tables made of it, or their folders: finds near-duplicate crops, face sizes"
    )
    against: Path | None = Field(
        None, description="manifest of other data to test on; shared people, videos and pictures are found"
    )
    out: Path = Field(Path("audit"), description="folder for audit.json, audit.html and the lists as .csv")
    fail: bool = Field(False, description="exit with code 1 where anything but notes is found, for CI")

    def settings(self) -> AuditSettings:
        """The part that says what is looked at."""
        return AuditSettings(**{name: getattr(self, name) for name in AuditSettings.model_fields})


def run(config: Config) -> None:
    """Audits a manifest, prints what was found with the worst first, and writes the report.

    The exit code is 0 whatever is found, unless ``fail`` is set.
    """
    import typer

    from unmasked.analysis.reports.data_audit import write_page
    from unmasked.datasets.audit.run import audit
    from unmasked.datasets.documents import write_json
    from unmasked.datasets.manifest import MANIFEST
    from unmasked.datasets.tables import write_frame
    from unmasked.preprocessing.provenance import manifest_changes

    manifest = MANIFEST.read(config.manifest)
    against = None if config.against is None else MANIFEST.read(config.against)
    faces = [_read_faces(path) for path in config.faces]
    for path, (table, _) in zip(config.faces, faces, strict=True):
        if said := manifest_changes(table, manifest):
            print_result(f"NOTE: {path} was made of another manifest than {config.manifest}: {said}")
    with Reporter() as reporter:
        audited = audit(manifest, faces, against, config.settings(), progress=reporter)
    write_json(config.out / "audit.json", audited.to_dict())
    write_frame(audited.overlaps.shared, config.out / "overlaps.csv")
    if audited.duplicates is not None:
        write_frame(audited.duplicates.pairs, config.out / "duplicates.csv")
    page = write_page(audited, config.out)
    for line in lines(audited):
        print_result(line)
    print_result(f"audit report: {page}; its figures with their numbers: {page.parent / 'figures'}")
    if config.fail and not audited.is_clean:
        raise typer.Exit(1)


def lines(audited: Audit) -> list[str]:
    """What was found, with the worst first, then what could not be looked at."""
    found = []
    for finding in audited.findings:
        found.append(f"{finding.severity.upper()}: {finding.found}")
        if finding.severity != "note":
            found.append(f"  {finding.why} {finding.advice}")
    if audited.is_clean:
        found.insert(0, f"{audited.clean_words}: {'; '.join(audited.checked)}")
    return [*found, *(f"not checked: {sentence}" for sentence in audited.not_checked)]


def _read_faces(path: Path) -> tuple[pd.DataFrame, Path]:
    """A faces table and the folder that its crops are relative to.

    Raises:
        InputError: the path is neither a faces table nor a folder with one.
    """
    table = faces_file(path)
    if path.is_dir() and not table.is_file():
        raise InputError(f"folder {path} has no {FACES_FILE}; give the one that `unmasked preprocess` wrote")
    return read_faces(table), table.parent
