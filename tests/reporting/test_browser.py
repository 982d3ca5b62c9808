"""The report's page in a browser."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest
from chromium import FIRST_PAINT, needs_chromium, requests_of, violations, wait_for

from kgt_editor import reporting


def open_page(browser, path):
    browser.get(path.as_uri())
    wait_for(browser, "return document.getElementById('count').textContent !== ''")
    return browser


def text(browser, selector):
    return browser.execute_script(f"return document.querySelector('{selector}').textContent")


def press(browser, key):
    browser.switch_to.active_element.send_keys(key)


def typed(browser, name, value):
    """Set a control as a user would; returns the milliseconds until the filtered list is painted."""
    return browser.execute_async_script(
        "const [name, value, done] = arguments, field = document.getElementById(name), start = performance.now();"
        "field.value = value; field.dispatchEvent(new Event('input'));"
        "requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));",
        name,
        value,
    )


@needs_chromium
def test_the_page_works_by_keyboard_without_errors_or_requests(browser, builder, tmp_path):
    from selenium.webdriver.common.keys import Keys

    subject = "<script>document.title = 'broken'</script>"
    folder = builder.write_run(tmp_path / "run", subject=subject, size=40)
    report = reporting.write_report([folder], formats=["html"])
    open_page(browser, report.folder / "report.html")
    assert text(browser, "#count").startswith("40 of 40 edits")
    assert browser.title == "run"
    assert subject in text(browser, "#detail h3")

    press(browser, "/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"
    press(browser, "norrish")
    found = int(text(browser, "#count").split()[0])
    assert 0 < found < 40
    browser.execute_script("document.getElementById('list').focus()")
    press(browser, Keys.ARROW_DOWN)
    press(browser, Keys.ARROW_DOWN)
    assert text(browser, ".row[aria-selected=true] .q") in text(browser, "#detail h3")
    press(browser, Keys.END)
    assert browser.execute_script("return document.querySelector('.row[aria-selected=true]').ariaPosInSet") == str(
        found
    )
    typed(browser, "search", "")
    typed(browser, "outcome", "lost")
    lost = int(text(browser, "#count").split()[0])
    typed(browser, "outcome", "held")
    assert int(text(browser, "#count").split()[0]) + lost == 40
    assert browser.execute_script("return document.querySelectorAll('#detail svg .node').length") > 1

    head = "document.querySelectorAll('#tables table')[0].querySelectorAll('th button')[1]"
    first = "return document.querySelector('#tables tbody tr th').textContent"
    browser.execute_script(f"{head}.click()")
    assert browser.execute_script(first) == "KGT"
    browser.execute_script(f"{head}.click()")
    assert browser.execute_script(first) == "no edit"
    browser.execute_script(f"{head}.click()")
    assert browser.execute_script(first) == "ROME"  # the paper's order again

    for width in (390, 1280):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert requests_of(browser) == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []


@needs_chromium
def test_every_editors_edits_are_read_side_by_side_linked_to_and_taken_away(browser, builder, tmp_path):
    folder = builder.write_run(tmp_path / "run", size=20, editors=("none", "rome", "kgt", "mend"), seeds=1)
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    said = {(line["editor"], line["case_id"]): line["said"] for line in records}
    report = reporting.write_report([folder], formats=["html"])
    page = report.folder / "report.html"
    open_page(browser, page)
    names = "return [...document.getElementById('editor').options].map((one) => one.text)"
    assert browser.execute_script(names) == ["KGT", "ROME", "MEND"]
    rows = "return [...document.querySelectorAll('.sides tr')].map((row) => row.cells[1].textContent)"
    assert browser.execute_script(rows) == [said[name, 0] for name in ("kgt", "rome", "mend")]
    typed(browser, "editor", 1)
    browser.execute_script("document.getElementById('editor').dispatchEvent(new Event('change'))")
    browser.execute_script("document.querySelectorAll('.row')[3].click()")
    link = browser.execute_script("return document.querySelector('#detail a').getAttribute('href')")
    assert link == "#run=run%2C+seed+0&editor=ROME&case=3"
    assert browser.execute_script("return document.querySelectorAll('#detail .triples').length") == 0  # no graph

    browser.execute_cdp_cmd("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    browser.execute_script("document.querySelector('#taken button').click()")
    taken = list(csv.DictReader(io.StringIO(written(tmp_path / "edits.csv").decode())))
    assert [row["at the end"] for row in taken] == [said["rome", case] for case in range(20)]
    browser.execute_script("document.querySelectorAll('#tables .tools button')[1].click()")
    table = list(csv.reader(io.StringIO(written(tmp_path / "table1-world-sequential.csv").decode())))
    assert [row[0] for row in table[1:]] == ["ROME", "MEND", "no edit", "KGT"]
    for kind, begin in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
        button = f"figure[data-stem^=figure4] .tools button[aria-label*='{kind}']"
        browser.execute_script(f'document.querySelector("{button}").click()')
        stem = browser.execute_script("return document.querySelector('figure[data-stem^=figure4]').dataset.stem")
        assert written(tmp_path / f"{stem}.{kind.lower()}").startswith(begin)

    browser.get("about:blank")
    browser.get(page.as_uri() + link)
    wait_for(browser, "return document.querySelector('.row[aria-selected=true]') !== null")
    wait_for(browser, "return document.querySelector('#detail p').textContent.startsWith('Edit 4, case 3')")
    assert browser.execute_script("return document.getElementById('editor').selectedOptions[0].text") == "ROME"
    ids = browser.execute_script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def written(path):
    """What the browser has saved, once it is whole."""
    deadline = time.monotonic() + 20
    while not path.exists() or path.with_name(f"{path.name}.crdownload").exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.05)
    return path.read_bytes()


@needs_chromium
def test_a_click_switches_between_light_and_dark(browser, builder, tmp_path):
    report = reporting.write_report([builder.write_run(tmp_path / "run", size=5)], formats=["html"])
    open_page(browser, report.folder / "report.html")
    colour = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('figure svg')).color"
    before = [browser.execute_script(script) for script in (colour, ink)]
    browser.execute_script("document.getElementById('theme').click()")
    after = [browser.execute_script(script) for script in (colour, ink)]
    assert all(old != new for old, new in zip(before, after, strict=True))
    open_page(browser, report.folder / "report.html")
    assert [browser.execute_script(script) for script in (colour, ink)] == after  # kept


@needs_chromium
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_the_page(browser, builder, tmp_path, theme):
    editors = ("none", "kgt", "kgt:user", "rome")
    folder = builder.write_run(tmp_path / "run", editors=editors, sizes=(5, 10), size=10, kept=True)
    open_page(browser, reporting.write_report([folder], formats=["html"]).folder / "report.html")
    browser.execute_script(
        f"document.documentElement.dataset.theme = '{theme}';"
        "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
    )
    assert violations(browser) == []


@pytest.mark.slow
@needs_chromium
def test_twenty_thousand_edits_stay_responsive(browser, builder, tmp_path):
    folder = builder.write_run(tmp_path / "run", size=21_919, seeds=1)
    report = reporting.write_report([folder], formats=["html"])
    open_page(browser, report.folder / "report.html")
    assert browser.execute_script(FIRST_PAINT) <= 2000
    for name, value in (("search", "castrel norrish"), ("search", "b"), ("outcome", "lost"), ("outcome", "all")):
        assert typed(browser, name, value) <= 200, (name, value)
    assert browser.execute_script("return document.querySelectorAll('.row').length") < 60
    assert requests_of(browser) == []
