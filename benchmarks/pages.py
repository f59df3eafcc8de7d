"""What stands in pages before anything is opened, what they weigh, and what in them overlaps or is cut off.

    python benchmarks/pages.py NAME=PAGE... [out=FOLDER]

A line of a Markdown table for each page, at 1280 px: words, tables and figures that are seen, of all; height
of the closed page; bytes; elements; first paint from disk and the renderer's processor time, the middle of
five loads. Then, everything opened, at 390, 768 and 1280 px: pages wider than the screen, text that leaves
its box, boxes that lie on each other. With `out`, first screens at 1280 and 390 px, light and dark, as PNG.

Needs Debian's chromium and chromium-driver, and selenium. Exit code 1 where something overlaps or is cut off.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from selenium import webdriver

WIDTHS = (390, 768, 1280)
LOADS = 5
FAULTS_SHOWN = 8  # of a page at a width
COUNTS = r"""
const seen = one => one.checkVisibility({contentVisibilityAuto: false});
const count = name => {
  const all = [...document.querySelectorAll(name)];
  return [all.filter(seen).length, all.length];
};
let visible = 0, all = 0, text, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (text = walk.nextNode()) {
  if (text.parentElement.closest("svg, style")) continue;
  const words = (text.textContent.match(/\S+/g) || []).length;
  all += words;
  if (seen(text.parentElement)) visible += words;
}
return {words: [visible, all], tables: count("table"), figures: count("figure"),
        height: document.documentElement.scrollHeight, elements: document.querySelectorAll("*").length,
        paint: (performance.getEntriesByName("first-contentful-paint")[0] || {}).startTime};
"""
FAULTS = r"""
document.querySelectorAll("details").forEach(one => one.open = true);
const found = [];
const style = one => getComputedStyle(one);
const name = one => `${one.tagName} “${one.textContent.trim().replace(/\s+/g, " ").slice(0, 50)}”`;
const laid = one => one.checkVisibility({contentVisibilityAuto: false}) &&
  style(one).display !== "inline" && !["absolute", "fixed"].includes(style(one).position);
const extra = document.documentElement.scrollWidth - innerWidth;
if (extra > 0) found.push(`the page is ${extra} px wider than the screen`);
for (const one of document.querySelectorAll("body, body *:not(svg *)")) {
  if (!laid(one)) continue;
  const scrolls = ["auto", "scroll"].includes(style(one).overflowX), width = one.clientWidth;
  if (width > 1 && one.scrollWidth > width + 1 && !scrolls) found.push(`cut off: ${name(one)}`);
  const children = [...one.children].filter(laid);
  const boxes = children.map(child => child.getBoundingClientRect());
  for (let i = 0; i + 1 < boxes.length; i++) {
    for (let j = i + 1; j < Math.min(boxes.length, i + 4); j++) {
      const [a, b] = [boxes[i], boxes[j]];
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1.5 && high > 1.5) found.push(`on each other: ${name(children[i])}, ${name(children[j])}`);
    }
  }
}
for (const one of document.querySelectorAll("thead")) {
  const isSeen = one.getBoundingClientRect().width > 1 && style(one).position === "absolute";
  if (isSeen) found.push(`a head on its cards: ${name(one)}`);
}
return [...new Set(found)];
"""


def main(arguments: list[str]) -> int:
    """Prints the table and the faults; 1 where there are any."""
    given = dict(one.split("=", 1) for one in arguments)
    out = given.pop("out", "")
    browser = open_browser()
    try:
        print(
            "| page | words visible, of all | tables | figures | height | kB | elements | paint | renderer |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for name, path in given.items():
            print(line_of(browser, name, Path(path)), flush=True)
        faults = [fault for name, path in given.items() for fault in faults_of(browser, name, Path(path))]
        print("\n".join(["", *(faults or ["nothing overlaps, nothing is cut off"])]))
        for name, path in given.items() if out else ():
            take_pictures(browser, name, Path(path), Path(out))
    finally:
        browser.quit()
    return int(bool(faults))


def open_browser() -> Any:
    """Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    service = webdriver.chrome.service.Service(shutil.which("chromedriver"))
    browser = webdriver.Chrome(options=options, service=service)
    browser.command_executor.client_config.timeout = 600  # of a busy machine
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
    return browser


def load(browser: Any, path: Path, width: int) -> None:
    """Opens a page on a screen of that width."""
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(path.resolve().as_uri())


def line_of(browser: Any, name: str, path: Path) -> str:
    """A page's line of the table."""
    paints, seconds, counts = [], [], {}
    for _ in range(LOADS):
        load(browser, Path("/dev/null"), WIDTHS[-1])
        before = process_s(browser)
        load(browser, path, WIDTHS[-1])
        while (counts := browser.execute_script(COUNTS))["paint"] is None:
            time.sleep(0.05)
        paints.append(counts["paint"])
        seconds.append(process_s(browser) - before)
    of = {key: f"{counts[key][0]:,} of {counts[key][1]:,}" for key in ("words", "tables", "figures")}
    share = counts["words"][0] / max(counts["words"][1], 1)
    return (
        f"| {name} | {of['words']} ({100 * share:.0f} %) | {of['tables']} | {of['figures']} | "
        f"{counts['height']:,} px | {path.stat().st_size / 1000:,.0f} | {counts['elements']:,} | "
        f"{statistics.median(paints) / 1000:.2f} s | {statistics.median(seconds):.2f} s |"
    )


def process_s(browser: Any) -> float:
    """Processor time of the renderer so far."""
    metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "ProcessTime")


def faults_of(browser: Any, name: str, path: Path) -> Iterator[str]:
    """What overlaps or is cut off when everything is open, a line each."""
    for width in WIDTHS:
        load(browser, path, width)
        for fault in browser.execute_script(FAULTS)[:FAULTS_SHOWN]:
            yield f"{name}, {width} px: {fault}"


def take_pictures(browser: Any, name: str, path: Path, out: Path) -> None:
    """First screens as PNG files."""
    out.mkdir(parents=True, exist_ok=True)
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        for width in (1280, 390):
            load(browser, path, width)
            browser.save_screenshot(str(out / f"{name}_{width}_{scheme}.png"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
