"""What holds for every page: one notation of an interval, and each figure as a file with its numbers."""

from __future__ import annotations

import json
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audit_corpus import people
from fairness_findings import complete
from PIL import Image
from preprocessing_fakes import square_frame
from report_fakes import SOURCE, UNSEEN, table_of, write_run
from test_inspection import FITTED, SAMPLED, SETTINGS, rates, scored
from test_report import add_everything
from test_report_parts import changed
from typer.testing import CliRunner

from unmasked.analysis.figures.dots import Dot, DotDisplay
from unmasked.analysis.reports.fairness.page import page as fairness_page
from unmasked.analysis.reports.fairness.page import write_page
from unmasked.analysis.reports.gallery import INDEX, Gallery
from unmasked.analysis.reports.run.page import write_report
from unmasked.app.cli import app
from unmasked.datasets.documents import write_json
from unmasked.datasets.locks import LOCK
from unmasked.datasets.manifest import MANIFEST
from unmasked.inspection.finding import finding_of, people_of
from unmasked.inspection.page import render_case
from unmasked.inspection.records import Case, Look, Source, Weights

PAGES = {
    "run": "report.html",
    "fairness": "fairness.html",
    "collection": "report.html",
    "audit": "audit.html",
}
CASE = {"case": "case.html"}  # its figures are in no folder, as a case lists every file of its own
NUMBER = r"[−+-]?\d+(?:\.\d+)?"
# A number that has its interval behind it, as every page writes it.
STANDARD = re.compile(rf"\[{NUMBER}, {NUMBER}\]")
# How intervals were written before, or might be by a hand that does not know better.
OTHERS = {
    "a dash": rf"{NUMBER} ?[–—] ?{NUMBER}",
    "round brackets": rf"\({NUMBER} ?%?(?:–|,| to ) ?{NUMBER}\)",
    "to": rf"{NUMBER} to [−+-]?\d",
    "between": rf"between {NUMBER}\D{{0,12}} and {NUMBER}",
    "a minus that is none": r"\[-|, -\d[\d.]*\]",
    "plus-minus": rf"± ?{NUMBER}",
}
# Ranges that are no interval: an axis or a band of scores, seconds, and a change from one value to another.
NO_INTERVALS = (
    r"scores from [\d.]+ to [\d.]+",
    r"from 1 \(mild\) to 5",
    r"[\d.]+ to [\d.]+ s\b",
    r"(?:AUC goes from|AUC|FPR|TPR) [\d.]+ to [\d.]+",
    r"rises? from \d to \d",
)


def text_of(html):
    """What a reader is told: text of tables and sentences, of figures, and what is read aloud of them."""
    html = re.sub(r"<style>.*?</style>|<pre>.*?</pre>|data:image[^\"]*", " ", html, flags=re.DOTALL)
    labels = " ".join(re.findall(r'(?:aria-label|alt)="([^"]*)"', html))
    text = re.sub(r"</?(?:span|b|strong|em|code|a)\b[^>]*>", "", html)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", " | ", text)
    return re.sub(r"\s+", " ", f"{text} | {labels}".replace("\u00a0", " ").replace("&#39;", "’"))


def other_notations(html):
    text = text_of(html)
    for pattern in NO_INTERVALS:
        text = re.sub(pattern, " ", text)
    found = [
        (name, match.group(0)) for name, pattern in OTHERS.items() for match in re.finditer(pattern, text)
    ]
    return [one for one in found if not re.fullmatch(r"\d{4}-\d{2}(-\d{2})?", one[1])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each page, made as a user makes it."""
    root = tmp_path_factory.mktemp("pages")
    run = write_run(root / "run", changed(table_of(fainter=("dark",))))
    add_everything(run)
    write_report(run)
    write_page(complete(), root / "fairness")
    for name, trained, separation in (("UCF", SOURCE, 0.8), ("Xception", UNSEEN, 3.0)):
        table = table_of(unseen=separation).assign(detector=name, trained_on=trained)
        path = root / "scored" / f"{name}.csv"
        path.parent.mkdir(exist_ok=True)
        table.drop(columns="checkpoint").to_csv(path, index=False)
    manifest = people(40, np.random.default_rng(0))
    manifest["path"] = [
        f"{name}.{'avi' if label else 'mp4'}" for name, label in manifest[["video", "label"]].values
    ]
    MANIFEST.write(manifest, root / "manifest.csv")
    for arguments in (
        ["evaluate", f"predictions={root / 'scored'}", f"out={root / 'collection'}", "n_boot=100"],
        ["report", f"run={root / 'collection'}"],
        ["audit", f"manifest={root / 'manifest.csv'}", f"out={root / 'audit'}", "n_boot=100"],
    ):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output + repr(result.exception)
    write_case_page(root / "case")
    return {name: root / name for name in PAGES | CASE}


def write_case_page(folder):
    """The page of a video with two people, one of them suspicious, and errors measured on two datasets."""
    (folder / "crops").mkdir(parents=True)
    frames = scored([0.8, 0.95] * 4, [0.1] * 8)
    people_found = people_of(frames, FITTED, SETTINGS, is_video=True)
    measured = [rates("FF", "source", 0.1, 0.2), rates("CDF", "unseen", 0.3, 0.4)]
    looks = [
        Look(person=row.face, crop=f"crops/{row.frame}_{row.face}.png", blur=None, **fields)
        for row in frames.itertuples()
        for fields in [{name: getattr(row, name) for name in ("frame", "time_s", "score", "size_px")}]
    ]
    for look in looks:
        Image.fromarray(square_frame(look.frame)).save(folder / look.crop)
    source = {"name": "clip.mp4", "path": "../clip.mp4", "kind": "video", "bytes": 9, "sha256": "0" * 64}
    weights = {"detector": "UCF", "architecture": "ucf", "module": "", "path": "d", "sha256": "1" * 64}
    case = Case(
        source=Source(**source),
        weights=Weights(**weights, card_sha256="2" * 64),
        settings=SETTINGS,
        thresholds=FITTED.to_dict(),
        run="",
        performance=measured,
        finding=finding_of(people_found, SAMPLED, [], measured, FITTED),
        people=people_found,
        sampled=SAMPLED,
        looks=looks,
        warnings=[],
        code_sha256="3" * 64,
        environment={},
    )
    (folder / CASE["case"]).write_text(render_case(case, folder), encoding="utf-8")


def html_of(folders, name):
    return (folders[name] / (PAGES | CASE)[name]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PAGES | CASE)
def test_a_page_writes_every_interval_the_same_way(folders, name):
    html = html_of(folders, name)
    assert len(STANDARD.findall(text_of(html))) >= 3
    assert other_notations(html) == []


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("Debian's chromium and chromium-driver are not installed")
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.command_executor.client_config.timeout = 600  # of a busy machine
    yield driver
    driver.quit()


def look_at(browser, path, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.resolve().as_uri())


# What stands in a page before anything is opened; figures have words of their own.
VISIBLE = """
const seen = one => one.checkVisibility({contentVisibilityAuto: false});
const count = name => [...document.querySelectorAll(name)].filter(seen).length;
let words = 0, text, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (text = walk.nextNode()) {
  const of = text.parentElement;
  if (!of.closest("svg, style") && seen(of)) words += (text.textContent.match(/\\S+/g) || []).length;
}
return {words, tables: count("table"), figures: count("figure"),
        wide: document.documentElement.scrollWidth};
"""


# Text that leaves the box it stands in, and heads of tables that should not be seen on a phone.
CUT = """
const out = [...document.querySelectorAll("p, li, th, td, summary, figcaption")]
  .filter(one => one.clientWidth > 1 && one.scrollWidth > one.clientWidth + 1 && !one.closest("thead"));
const heads = [...document.querySelectorAll("thead")].filter(one => one.getBoundingClientRect().width > 1);
return [...out, ...heads].map(one => one.textContent);
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES | CASE)
def test_a_page_is_short_until_it_is_opened_and_fits_a_phone(folders, browser, name):
    path = folders[name] / (PAGES | CASE)[name]
    look_at(browser, path, 390)
    seen = browser.execute_script(VISIBLE)
    assert seen["wide"] == 390
    assert 100 < seen["words"] < 900
    assert seen["tables"] <= 1
    assert seen["figures"] == (7 if name == "case" else 1)  # of a case the faces, three of each person
    opened = "document.querySelectorAll('details').forEach(one => one.open = true);" + VISIBLE
    assert browser.execute_script(opened)["wide"] == 390
    assert browser.execute_script(CUT) == []
    look_at(browser, path, 1280)
    bottom = "return document.querySelector('.first').getBoundingClientRect().bottom"
    assert browser.execute_script(bottom) < 844  # the first screen is one screen


@pytest.mark.slow
def test_a_link_into_a_folded_part_opens_it(folders, browser):
    look_at(browser, folders["run"] / PAGES["run"], 1280)
    assert not browser.execute_script("return document.querySelector('#fairness').checkVisibility()")
    browser.execute_script("document.querySelector('nav a[href=\"#fairness\"]').click()")
    assert browser.execute_script("return document.querySelector('#fairness').checkVisibility()")


def objections_to(browser, path, width, axe):
    """What axe-core finds in a page whose parts are all open: rule, place and HTML of each."""
    look_at(browser, path, width)
    browser.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    browser.execute_script(axe)
    browser.set_script_timeout(300)
    run = "axe.run({resultTypes: ['violations']}).then(arguments[0])"
    violations = browser.execute_async_script(run)["violations"]
    return {
        (one["id"], str(node["target"]), node["html"]): [why["message"] for why in node["any"]]
        for one in violations
        for node in one["nodes"]
    }


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES | CASE)
def test_axe_finds_nothing_to_object_to(folders, browser, name, scheme):
    carrier = find_spec("axe_core_python")
    if carrier is None:
        pytest.skip("axe-core-python, which carries axe-core, is not installed")
    axe = (Path(carrier.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    path, width = folders[name] / (PAGES | CASE)[name], 390 if scheme == "light" else 1280
    found = objections_to(browser, path, width, axe)
    for _ in range(2):
        if found:
            # About once in thirty runs axe-core 4.4 takes the colour of another part of a long page for the
            # background of a cell. What is wrong with a page is wrong each time that it is loaded.
            again = objections_to(browser, path, width, axe)
            found = {one: why for one, why in found.items() if one in again}
    assert found == {}


@pytest.mark.parametrize(
    "text",
    ["0.91 0.85–0.96", "12 (5–19)", "+12 (−2 to +25)", "interval 85 to 96", "between 3 more and 5 fewer"],
)
def test_the_check_of_notations_finds_what_pages_had(text):
    assert other_notations(f"<p>{text}</p>")


@pytest.mark.parametrize("name", PAGES)
def test_every_figure_of_a_page_is_a_file_with_its_numbers(folders, name):
    html = html_of(folders, name)
    drawn = re.findall(r"<svg\b[^>]*>", html)
    named = [re.search(r'id="figure-([^"]+)"', tag) for tag in drawn]
    assert drawn
    assert all(named)
    names = [match.group(1) for match in named]
    assert len(set(names)) == len(names)
    for one in names:
        figure = folders[name] / "figures" / f"{one}.svg"
        assert "<svg" in figure.read_text(encoding="utf-8")
        assert len(pd.read_csv(figure.with_suffix(".csv")))
    index = json.loads((folders[name] / "figures" / INDEX).read_text())[PAGES[name]]
    assert {f"{one}{ending}" for one in names for ending in (".svg", ".csv")} <= set(index)


def test_every_kind_of_group_figure_is_written(folders):
    kinds = {
        path.stem.split("_Celeb")[0].split("_Face")[0]
        for path in (folders["fairness"] / "figures").glob("*.svg")
    }
    assert kinds >= {"group_fpr", "group_fnr", "group_thresholds_fpr_gender", "group_thresholds_tpr_gender"}
    assert kinds >= {"group_roc_gender", "group_scores_gender", "group_calibration_gender"}
    assert kinds >= {"group_robustness_jpeg_fpr_skin_tone_group", "mitigation_skin_tone_group"}


def test_csv_of_group_figures_holds_the_numbers_of_the_audit(tmp_path, unsaved_figures):
    found = complete()
    write_page(found, tmp_path)
    read = lambda name: pd.read_csv(tmp_path / "figures" / f"{name}.csv")  # noqa: E731
    audit = found["datasets"]["Celeb-DF-v2"]
    groups = [entry for part in audit["attributes"].values() for entry in part["groups"]]
    rates = read("group_fpr_Celeb-DF-v2")
    for column, values in {
        "share of real videos, 95 % interval": [entry["fpr"] for entry in groups],
        "low": [entry["fpr_ci"][0] for entry in groups],
        "high": [entry["fpr_ci"][1] for entry in groups],
    }.items():
        np.testing.assert_allclose(rates[column], np.array(values, dtype=float), rtol=1e-12)
    gender = audit["attributes"]["gender"]
    counted = read("group_scores_gender_Celeb-DF-v2")
    fakes = [one["counts"] for one in gender["scores"] if one["label"] == 1]
    assert list(counted["fake"]) == [count for counts in fakes for count in counts]
    calibration = read("group_calibration_gender_Celeb-DF-v2")
    expected = [share for one in gender["calibration"] for share in one["share_fake"]]
    np.testing.assert_allclose(calibration["share_fake"], expected)
    lines = read("group_robustness_jpeg_tpr_skin_tone_group_Celeb-DF-v2")
    entries = [
        one for one in found["perturbations"] if (one["perturbation"], one["metric"]) == ("jpeg", "tpr")
    ]
    for one in entries:
        row = lines[(lines["group"] == one["group"]) & (lines["severity"] == one["severity"])].iloc[0]
        assert row[["value", "low", "high"]].tolist() == pytest.approx([one["value"], *one["ci"]])
    remedies = read("mitigation_skin_tone_group_Celeb-DF-v2")
    assert remedies["FPR gap"].tolist() == pytest.approx([0.4, 0.1, 0.12, 0.3])
    assert remedies["levelling_down"].tolist() == [False, False, False, True]


def test_a_drawing_is_drawn_once_and_its_csv_is_its_table(tmp_path):
    display = DotDisplay([Dot("A", 1 / 3, 0.2, 0.5), Dot("B", float("nan"))], "share")
    gallery = Gallery()
    gallery.draw("dots", display, "two dots")
    gallery.draw("dots", display, "and again")
    assert list(gallery.drawings) == ["dots", "dots-2"]
    gallery.write(tmp_path, "x.html")
    assert (tmp_path / "dots.csv").read_text() == display.table().to_csv(index=False)
    assert pd.read_csv(tmp_path / "dots.csv")["share"][0] == pytest.approx(1 / 3, rel=1e-12)


def gallery_of(*names, **settings):
    gallery = Gallery(**settings)
    for name in names:
        gallery.draw(name, DotDisplay([Dot("A", 0.5)], "share"), name)
    return gallery


def test_figures_of_an_earlier_run_go_and_those_of_others_stay(tmp_path):
    gallery_of("old", "edited", "shared", "kept").write(tmp_path, "a.html")
    gallery_of("shared").write(tmp_path, "b.html")
    (tmp_path / "mine.svg").write_text("drawn by hand")
    (tmp_path / "edited.svg").write_text("improved by hand")
    gallery_of("kept", "new").write(tmp_path, "a.html")
    written = {path.name for path in tmp_path.iterdir()} - {INDEX, LOCK}
    both = {f"{name}{ending}" for name in ("shared", "kept", "new") for ending in (".svg", ".csv")}
    assert written == both | {"mine.svg", "edited.svg"}


def test_figures_are_pdf_files_where_asked_for_and_the_same_each_time(tmp_path):
    gallery_of("one", "two", has_pdf=True).write(tmp_path, "a.html")
    first = {path.name: path.read_bytes() for path in tmp_path.glob("*.pdf")}
    assert set(first) == {"one.pdf", "two.pdf"}
    for content in first.values():
        assert content.startswith(b"%PDF-")
        assert b"/FontFile2" in content  # TrueType inside the file, as journals want it
    gallery_of("one", has_pdf=True).write(tmp_path, "a.html")
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.pdf")} == {"one.pdf": first["one.pdf"]}
    gallery_of("one").write(tmp_path, "a.html")
    assert not list(tmp_path.glob("*.pdf"))


def test_an_index_from_elsewhere_removes_nothing_outside_the_folder(tmp_path):
    import hashlib

    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    digest = hashlib.sha256(b"precious").hexdigest()
    folder = tmp_path / "figures"
    write_json(folder / INDEX, {"a.html": {"../victim.txt": digest, str(victim): digest, "..": digest}})
    gallery_of("one").write(folder, "a.html")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("text", ["{", "[]", '{"a.html": 3}', "null"])
def test_a_damaged_index_removes_nothing_and_is_written_anew(tmp_path, text, caplog):
    gallery_of("old").write(tmp_path, "a.html")
    (tmp_path / INDEX).write_text(text)
    gallery_of("new").write(tmp_path, "a.html")
    assert {path.stem for path in tmp_path.glob("*.svg")} == {"old", "new"}
    assert list(json.loads((tmp_path / INDEX).read_text())["a.html"]) == ["new.svg", "new.csv"]
    assert "cannot be read" in caplog.text


def test_the_page_of_a_run_and_its_audit_share_one_folder(tmp_path, unsaved_figures):
    run = write_run(tmp_path, table_of(fainter=("dark",)))
    found = json.loads((run / "fairness.json").read_text())
    write_page(found, run)
    before = {path.name for path in (run / "figures").glob("group_*")}
    write_report(run)
    assert {path.name for path in (run / "figures").glob("group_*")} == before
    assert {"roc.svg", "roc.csv"} <= {path.name for path in (run / "figures").iterdir()}
    shared = re.findall(r'id="figure-(group_[^"-]+)', (run / "report.html").read_text(encoding="utf-8"))
    assert shared
    assert 'id="figure-group_fpr' in fairness_page(found)
