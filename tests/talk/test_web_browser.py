"""The page on which people talk to a model, in a browser."""

from __future__ import annotations

from typing import Any

import pytest
from chromium import FIRST_PAINT, needs_chromium, requests_of, violations, wait_for

from .conftest import Served

TONGUE = "The mother tongue of Zanwick Alder is"


@pytest.fixture
def address(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}/"


def send(page: Any, field: str, text: str) -> None:
    """Type a line and press return, as a person does."""
    found = page.find_element("id", field)
    found.send_keys(text)
    found.send_keys("\n")


@needs_chromium
def test_a_person_corrects_an_answer_sees_the_fact_and_removes_it(browser: Any, address: str) -> None:
    browser.get(f"{address}#token=ada-token")
    wait_for(browser, "return document.getElementById('who').textContent === 'ada, with testbed-gpt2'")
    assert browser.current_url == address  # the token does not stay in the address
    assert browser.execute_script(FIRST_PAINT) <= 1000
    send(browser, "line", TONGUE)
    send(browser, "line", "No, French.")  # while the answer is still being written
    wait_for(browser, "return document.querySelectorAll('.fact').length === 1")
    send(browser, "line", TONGUE)
    wait_for(browser, "return document.querySelector('#log .by')?.textContent.endsWith('French')")
    assert browser.execute_script("return document.querySelector('#facts h3').textContent") == "Zanwick Alder"

    assert violations(browser) == []

    browser.switch_to.new_window("tab")  # somebody else on the same server
    browser.get(f"{address}#token=milo-token")
    wait_for(browser, "return document.getElementById('who').textContent.startsWith('milo')")
    assert browser.execute_script("return document.querySelectorAll('.fact').length") == 0
    browser.close()
    browser.switch_to.window(browser.window_handles[0])

    browser.find_element("css selector", ".fact button").click()
    wait_for(browser, "return !document.getElementById('none').hidden")
    send(browser, "what", "all")
    wait_for(browser, "return document.getElementById('note').textContent.includes(\"type 'everything'\")")
    assert all(url.startswith(address) for url in requests_of(browser))
    errors = [
        entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "422" not in entry["message"]
    ]
    assert errors == []


@needs_chromium
def test_what_is_said_is_shown_as_text(browser: Any, address: str) -> None:
    browser.get(f"{address}#token=ada-token")
    send(browser, "line", "<img src=x onerror=document.title='run'> Is Ada?")
    wait_for(browser, "return document.querySelectorAll('#log p').length > 1")
    assert browser.title == "kgt"
    assert browser.execute_script("return document.querySelectorAll('#log img').length") == 0


@needs_chromium
def test_without_a_token_the_page_says_what_to_do(browser: Any, address: str) -> None:
    browser.get(address)
    wait_for(browser, "return document.getElementById('note').textContent.startsWith('no token')")
    assert violations(browser) == []
