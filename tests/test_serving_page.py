"""The page of the server in a real Chromium: requests, keys, names for who cannot see, sorting."""

from __future__ import annotations

import json
import shutil
import time
from functools import partial

import pytest
from preprocessing_fakes import square_frame, write_video
from test_serving import Server, picture, weights, whole  # noqa: F401  (fixtures)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("chromium") and shutil.which("chromedriver")),
        reason="Debian's chromium and chromium-driver are not installed",
    ),
]
LARGE = partial(square_frame, size_px=192)


@pytest.fixture(scope="module")
def browser():
    """Chromium, 400 pixels wide, that notes every request."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield driver
    driver.quit()


def until(condition, seconds=90):
    for _ in range(seconds * 5):
        if condition():
            return
        time.sleep(0.2)
    raise AssertionError("it did not happen")


def test_files_are_sent_and_answered_and_nothing_is_asked_of_others(whole: Server, browser, tmp_path):  # noqa: F811
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    clip = write_video(tmp_path / "clip.mp4", 12, draw=LARGE)
    (tmp_path / "picture.png").write_bytes(picture())
    (tmp_path / "paper.pdf").write_bytes(b"%PDF-1.7")
    find = partial(browser.find_elements, By.CSS_SELECTOR)
    browser.get(whole.address)
    until(lambda: find("#limits")[0].text)
    names = [clip, tmp_path / "picture.png", tmp_path / "paper.pdf"]
    find("#files")[0].send_keys("\n".join(map(str, names)))
    until(lambda: len(find("#rows .open")) == 2)
    texts = [row.text for row in find("#rows tr")]
    assert "is a PDF" in next(text for text in texts if text.startswith("paper.pdf"))
    assert all(word in " ".join(texts) for word in ("clip.mp4", "picture.png"))
    # By keys alone: sort by name, turn it round, open the first.
    heading = find("th[data-key=name] button")[0]
    for order, sign in (("ascending", 1), ("descending", -1)):
        heading.send_keys(Keys.ENTER)
        assert find("th[data-key=name]")[0].get_attribute("aria-sort") == order
        shown = [row.text.split()[0] for row in find("#rows tr")]
        assert shown == sorted(shown)[::sign]
    find("#rows .open")[-1].send_keys(Keys.ENTER)
    until(lambda: find("#detail .strip svg"))
    assert browser.switch_to.active_element.get_attribute("id") == "detail-title"
    detail = find("#detail")[0].text
    job = whole.get(
        f"/v1/jobs/{json.loads(browser.execute_script('return sessionStorage.getItem(`unmasked-jobs`)'))[0]}"
    )
    for sentence in job["result"]["finding"]["sentences"]:
        assert sentence in detail
    assert "The uploaded file has been deleted." in detail
    assert "Score of person 0 over time" in find(".strip svg")[0].get_attribute("aria-label")
    until(lambda: all(image.get_property("naturalWidth") for image in find("#detail img")))
    # Every control has a name; nothing is wider than a phone.
    for control in find("button, input:not([hidden]), a, [role=img]"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 400
    asked = [
        json.loads(entry["message"])["message"]["params"]["request"]["url"]
        for entry in browser.get_log("performance")
        if 'Network.requestWillBeSent"' in entry["message"]
    ]
    assert asked
    assert all(url.startswith((whole.address, "blob:", "data:")) for url in asked), asked
    faults = [entry for entry in browser.get_log("browser") if "415" not in entry["message"]]
    assert faults == []


def test_a_token_is_asked_for_once_and_used(weights, browser, tmp_path):  # noqa: F811
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    token = "a-token-of-the-page-0123456789"
    server = Server("quick", tmp_path, f"checkpoint={weights}", token=token, UNMASKED_TOKEN=token)
    find = partial(browser.find_element, By.CSS_SELECTOR)
    try:
        browser.get(server.address)
        until(lambda: find("#token-form").is_displayed())
        find("#token").send_keys("a-wrong-token-0123456789" + Keys.ENTER)
        until(lambda: "not known" in find("#status").text)
        find("#token").clear()
        find("#token").send_keys(token + Keys.ENTER)
        until(lambda: not find("#token-form").is_displayed())
        assert "MB a file" in find("#limits").text
    finally:
        server.stop()
