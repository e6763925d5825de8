"""The console over two workers: one tree, one overview, one log, whichever of them serves the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from gateway.workers import peers
from hermes.journal.memory import MemoryJournal
from hermes.runtime import SystemClock
from tests.browser.conftest import Page
from tests.gateway.api import Api

Start = Callable[..., Awaitable[Api]]
NewPage = Callable[[Api], Page]


async def two(start: Start) -> tuple[Api, Api]:
    journal = MemoryJournal(clock=SystemClock(), worker_id="01KWORKERONE")
    await journal.start()
    first = await start(journal=journal, workers=2)
    other = journal.peer("01KWORKERTWO")
    await other.start()
    return first, await start(journal=other, workers=2)


def row(page: Page, name: str) -> Any:
    """The row of the tree whose actor has this full name."""
    return next(iter(page.all(f'.tree .row[data-name="{name}"]')), None)


@pytest.mark.slow
async def test_the_tree_shows_each_worker_and_an_order_from_the_page_reaches_the_other(
    start: Start, new_page: NewPage
) -> None:
    first, second = await two(start)
    page = new_page(first)
    await page.log_in()
    await page.open("tree")
    await page.see("worker/01KWORKERTWO", "32 shards", css=".tree .row")
    of_second = "worker/01KWORKERTWO/provider/mock-sms"
    await page.until(lambda: row(page, of_second), "the other worker's actors are there")
    shown = await page.do(lambda: row(page, of_second).find_element(By.CSS_SELECTOR, ".name").text)
    assert shown == "provider/mock-sms", "its worker's line says the rest"
    await page.do(lambda: row(page, of_second).find_element(By.CSS_SELECTOR, ".name").click())
    await page.see(of_second, css="h1")
    await page.click('button[data-order="suspend"]')
    await page.click("dialog button", "Suspend")
    await page.see("suspended", css=".cards")
    assert second.node.system.info("provider/mock-sms").state == "suspended"
    assert first.node.system.info("provider/mock-sms").state != "suspended"
    await page.type("#search", "workers" + Keys.ENTER)
    await page.see("worker/01KWORKERONE", "worker/01KWORKERTWO", css="main")


@pytest.mark.slow
async def test_the_overview_and_the_log_are_those_of_both_and_say_who_is_silent(
    start: Start, new_page: NewPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "LOOK_EVERY_S", 0.0)
    first, second = await two(start)
    for api in (first, second):
        await api.node.final(await api.sent())
    page = new_page(first)
    await page.log_in()
    await page.see("on 2 workers", css="main .hint")
    await page.see("@KERTWO provider/mock-sms", css=".columns section")
    await page.see("test", "2", css=".columns section")
    await page.see("ready", css="#health")
    await second.server.stop()
    await page.see("1 of 2 workers silent", css="#health")
    await page.open("tree")
    await page.see("worker/01KWORKERTWO", "unreachable", css=".tree .row")
