"""``unmasked compare``: two runs -> paired differences, and what is unlike between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from unmasked.app.progress import print_result


class Config(BaseModel):
    """Which two runs are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    a: Path = Field(description="a run's folder, or a predictions file (.parquet, .csv)")
    b: Path = Field(description="the other run's; differences are a minus b")
    out: Path = Field(Path("runs/compare"), description="folder for compare.json, compare.md and compare.tex")
    level: Literal["video", "frame"] = Field("video", description="what is ranked")
    n_boot: int = Field(2000, ge=0, description="bootstrap resamples behind each interval")
    seed: int = Field(0, ge=0, description="seed of the resampling")


def run(config: Config) -> None:
    """Compares on the videos that both scored, writes the results and prints them."""
    from unmasked.datasets.files import write_json, write_text
    from unmasked.evaluation.compare import compare, read_run
    from unmasked.evaluation.tables import as_latex, as_markdown, compare_tables

    results = compare(
        read_run(config.a), read_run(config.b), level=config.level, n_boot=config.n_boot, seed=config.seed
    )
    tables = compare_tables(results)
    write_json(config.out / "compare.json", results)
    write_text(config.out / "compare.md", as_markdown(tables))
    write_text(config.out / "compare.tex", as_latex(tables))
    _print(results)
    print_result(f"all of it: {config.out / 'compare.md'}, with numbers in {config.out / 'compare.json'}")


def _print(results: dict[str, Any]) -> None:
    from unmasked.evaluation.metrics import METRICS
    from unmasked.evaluation.wording import value_text

    for side in ("a", "b"):
        print_result(f"{side}: {results[side]['name']} ({results[side]['detector']})")
    for name, block in results["datasets"].items():
        print_result(f"{name}, {block['n']['shared_videos']} videos that both scored, a minus b:")
        for key, found in block["metrics"].items():
            difference = value_text(found["difference"], found["difference_ci"], places=3, plus=True)
            values = f"{value_text(found['a'], places=3)} - {value_text(found['b'], places=3)}"
            title = METRICS[key].title
            print_result(f"  {title:<4} {values} = {difference:<26} {block['readings'][key]}")
    for name, data in results["data"].items():
        if data["only_a"] or data["only_b"]:
            print_result(f"  {name}: {data['only_a']} videos only in a, {data['only_b']} only in b; left out")
    sections = [row["section"] for row in results["differences"]]
    counted = ", ".join(f"{name} ({sections.count(name)})" for name in dict.fromkeys(sections))
    print_result(f"unlike: {counted or 'nothing that the runs say of themselves'}; equal: {results['equal']}")
    for sentence in results["unknown"]:
        print_result(f"  unknown: {sentence}")
