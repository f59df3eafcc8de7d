"""A run with scores drawn as planned, and a reader of the page about it."""

from __future__ import annotations

from html.parser import HTMLParser

import numpy as np
import pandas as pd

from unmasked.datasets.documents import write_json
from unmasked.evaluation.evaluate import evaluate
from unmasked.evaluation.fitted import fit_on_source
from unmasked.evaluation.origin import Origin
from unmasked.evaluation.predictions import PREDICTIONS
from unmasked.fairness.run import audit_datasets, write

SOURCE, UNSEEN = "FaceForensics++", "Celeb-DF-v2"


class Reader(HTMLParser):
    """Sections with their text, and everything that could ask the network or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sections, self.ids, self.addresses, self.tags, self.current = {}, [], [], set(), None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.add(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action", "xlink:href")]
        assert not any(name.startswith("on") for name in values)
        if tag == "section":
            self.current = values["id"]
            self.sections[self.current] = ""

    def handle_endtag(self, tag):
        self.current = None if tag == "section" else self.current

    def handle_data(self, data):
        if self.current:
            self.sections[self.current] += data

    def __getitem__(self, name):
        return " ".join(self.sections[name].split())


def scored(dataset, split, separation, *, fainter=(), people=24, seed=0):
    """Five crops of a real and of two fakes of each person; scores part by ``separation``."""
    rng = np.random.default_rng([seed, len(dataset), len(split)])
    rows = []
    for person in range(people):
        tone = ("light", "dark")[person % 2]
        for method in ("real", "Deepfakes", "FaceSwap"):
            label = int(method != "real")
            level = separation * (label - 0.5) - (2.5 if label and tone in fainter else 0)
            video = rng.normal(level, 0.8)
            for frame in range(5):
                score = 1 / (1 + np.exp(-video - rng.normal(0, 0.3)))
                rows.append((dataset, f"{method}/{split}{person}", frame, label, method, split, score, tone))
    columns = ["dataset", "video", "frame", "label", "method", "split", "score", "skin_tone_group"]
    table = pd.DataFrame(rows, columns=columns).assign(face=0, detector="UCF", checkpoint="ab" * 32)
    return table.assign(identity=table["video"].str.split("/").str[1])


def write_run(folder, predictions, *, audited=True, source=SOURCE):
    """A run's folder, with whatever can be fitted on the source's validation rows."""
    found = {}
    if "split" in predictions and (predictions["split"] == "val").any():
        fitted = fit_on_source(predictions, ["eer", "fpr:0.10", "fpr:0.05"], dataset=SOURCE)
        found = {"threshold": fitted.threshold, "thresholds": fitted.other_thresholds}
        found |= {"calibrations": fitted.calibrations, "band": fitted.band}
        made_from = Origin.of(predictions).to_dict()
        write_json(folder / "thresholds.json", fitted.to_dict() | {"made_from": made_from})
    results = evaluate(predictions, **found, source=source, n_boot=200)
    write_json(folder / "metrics.json", results)
    PREDICTIONS.write(predictions, folder / "predictions.parquet")
    if audited:
        at = results["settings"]["threshold"]["value"]
        audits, skipped = audit_datasets(
            predictions, ["skin_tone_group"], thresholds=at, n_boot=200, n_perm=200, min_samples=20
        )
        write(audits, skipped, folder)
    return folder


def table_of(unseen=0.8, fainter=(), **settings):
    """The source's val and test split, and a dataset on which scores part less."""
    parts = [
        scored(SOURCE, "val", 4.0, **settings),
        scored(SOURCE, "test", 4.0, fainter=fainter, **settings),
        scored(UNSEEN, "test", unseen, **settings),
    ]
    return pd.concat(parts, ignore_index=True)
