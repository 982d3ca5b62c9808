"""The report's page in a browser."""

from __future__ import annotations

import pytest
from chromium import FIRST_PAINT, needs_chromium, requests_of, wait_for

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

    for width in (390, 1280):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert requests_of(browser) == []
    assert [entry["message"] for entry in browser.get_log("browser")] == []


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
