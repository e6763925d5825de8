"""The console in a real browser: what an operator sees, and what a click does."""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from hermes.runtime import Actor
from tests.actors.cast import mock
from tests.browser.conftest import Page
from tests.gateway.api import OPERATOR, Api
from tests.gateway.test_tenants import dead_letters

Start = Callable[..., Awaitable[Api]]
NewPage = Callable[[Api], Page]


async def test_nothing_is_shown_without_the_key_and_the_key_is_not_kept(api: Api, new_page: NewPage) -> None:
    page = new_page(api)
    await page.open("tree")
    await page.type("#key", "wrong" + Keys.ENTER)
    await page.see("This is not the operator key", css=".login")
    await page.type("#key", OPERATOR + Keys.ENTER)
    await page.see("root", "journal", css=".tree")
    assert await page.script("return document.cookie + JSON.stringify(localStorage) + location.href") == (
        "{}" + f"{api.url}/console#/tree"
    )
    await page.click("#logout")
    await page.see("Operator key", css=".login")
    await page.open("tree")
    await page.see("Operator key", css=".login")


async def test_overview_shows_what_goes_through_and_what_is_not_well(api: Api, page: Page) -> None:
    for _ in range(3):
        await api.node.final(await api.sent())
    await api.call("POST", "/v1/carriers/mock-push/pause", key=OPERATOR)
    sms = api.node.system.whereis("provider/mock-sms")
    assert sms is not None
    sms.stop(ValueError("a bug in it"))
    await page.see("mock-push", "paused", css=".columns section")
    await page.see("provider/mock-sms", "back off", "a bug in it", css=".columns section")
    await page.see("test", "3", css=".columns section")
    await page.see("ready", css="#health")
    await page.until(lambda: len(page.all(".figure svg.spark")) >= 3, "lines are drawn")


@pytest.mark.slow
async def test_tree_is_live_and_walked_by_keys(api: Api, page: Page) -> None:
    await page.open("tree")
    await page.see("provider/mock-sms", css=".tree")
    await api.call("POST", "/v1/actors/provider/mock-sms/suspend", key=OPERATOR)
    await page.see("provider/mock-sms", "suspended", css=".tree .row")
    await api.call("POST", "/v1/actors/provider/mock-sms/stop", key=OPERATOR)
    await page.see("provider/mock-sms", "disabled", css=".tree .row")
    await page.script("document.querySelector('.tree .row').focus()")
    await page.press(Keys.ARROW_DOWN, Keys.ARROW_DOWN)
    focused = "return document.activeElement.dataset.name"
    assert await page.script(focused) == "carriers"
    await page.press(Keys.ARROW_LEFT)
    await page.until(
        lambda: "provider/mock-sms" not in page.driver.find_element(By.CSS_SELECTOR, ".tree").text, "it folds"
    )
    await page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert await page.script(focused) == "providers"
    await page.press(Keys.ENTER)
    await page.see("providers", css="h1")


async def test_actor_is_restarted_only_after_a_yes(api: Api, page: Page) -> None:
    before = api.node.system.whereis("provider/mock-sms")
    await page.open("actor/provider/mock-sms")
    await page.click("[data-order=restart]")
    await page.see("Restart provider/mock-sms?", css="dialog")
    await page.click("dialog button", "Leave it")
    assert api.node.system.whereis("provider/mock-sms") is before
    await page.click("[data-order=restart]")
    await page.click("dialog button", "Restart")
    await api.node.until(lambda: api.node.system.whereis("provider/mock-sms") not in (None, before))
    await page.see("restarts", "1", css=".cards")


async def test_log_level_of_an_actor_is_changed(api: Api, page: Page) -> None:
    await page.open("actor/tenants")
    await page.click("select option", "debug")
    await api.node.until(lambda: api.node.system.log_levels() == {"tenants": logging.DEBUG})


async def test_refused_order_is_told(api: Api, page: Page) -> None:
    await page.open("actor/root")
    await page.click("[data-order=stop]")
    await page.click("dialog button", "Stop")
    await page.see("It was not done", "stop the process instead", css="dialog")


async def test_carrier_is_paused_and_resumed_and_its_binds_are_seen(start: Start, new_page: NewPage) -> None:
    class Bound(Actor):
        def inspect(self) -> dict[str, Any]:
            bind = {"n": 1, "mode": "transceiver", "state": "bound", "since": None, "in_flight": 7, "window_size": 10}
            refused = {
                "n": 2,
                "mode": "transceiver",
                "state": "refused",
                "since": None,
                "in_flight": 0,
                "window_size": 10,
            }
            return {
                "state": "up", "breaker": "closed", "in_flight": 7, "sent": 5,
                "binds": [{**bind, "last_error": None}, {**refused, "last_error": "ESME_RINVPASWD"}],
            }  # fmt: skip

    api = await start([mock("telco", "sms"), mock("other", "sms")])
    page = new_page(api)
    await page.log_in()
    await page.open("carrier/other")
    await page.click("[data-order=pause]")
    await page.click("dialog button", "Pause")
    await page.see("paused", "paused by an operator", css=".cards")
    await page.click("[data-order=resume]")
    await page.see("up", css=".cards .state")
    telco = api.node.system.whereis("provider/telco")
    assert telco is not None and telco._actor is not None
    telco._actor.inspect = Bound().inspect  # type: ignore[method-assign]
    await page.open("carrier/telco")
    await page.see("7 / 10", "bound", "ESME_RINVPASWD", css="table")
    await page.open("carriers")
    await page.see("telco", "1 / 2", css="tbody tr")


async def test_message_is_found_and_its_cascade_is_a_picture(api: Api, page: Page) -> None:
    body = {
        "to": {"email": "undelivered@example.com", "phone": "+4520120001"},
        "cascade": ["email", "sms"],
        "content": {"text": "Hi", "subject": "Hi"},
        "reference": "order-17",
    }
    message_id = await api.sent(body)
    await api.node.final(message_id)
    await api.node.final(await api.sent())
    await page.open("messages")
    await page.see("2 delivered", css=".counts")
    await page.type('input[placeholder="begins with"]', "order" + Keys.ENTER)
    await page.until(lambda: len(page.all("tbody tr")) == 1, "only the one that was looked for")
    await page.click("tbody a", message_id)
    await page.see(message_id, css="h1")
    await page.see("undelivered", "fallback", "delivered", css="table")
    drawn = await page.until(lambda: page.all("svg.timeline"), "the picture")
    label = await page.do(lambda: drawn[0].get_attribute("aria-label"))
    assert label == "delivered: step 0 email by mock-email, undelivered; step 1 sms by mock-sms, delivered"
    assert len(page.all("svg.timeline .bar.undelivered")) == len(page.all("svg.timeline .fallback")) == 1


@pytest.mark.slow
async def test_open_message_is_found_by_its_id_and_grows_while_one_looks(start: Start, new_page: NewPage) -> None:
    api = await start([mock("mock-sms", "sms", receipt_delay_ms=3000)])
    page = new_page(api)
    await page.log_in()
    message_id = await api.sent()
    await page.press("/")
    await page.press(message_id, Keys.ENTER)
    await page.see(message_id, css="h1")
    await page.see("in progress", css=".cards")
    await page.see("delivered", css=".cards")
    await page.see("receipt delivered", css="table")


async def test_hostile_text_is_text(api: Api, page: Page) -> None:
    evil = "<img src=x onerror=alert(1)><b>bold"
    await api.call("POST", "/v1/tenants", {"name": evil}, key=OPERATOR)
    message_id = await api.sent({"channel": "sms", "to": "+4520120001", "content": {"text": "Hi"}, "reference": evil})
    await page.open("tenants")
    await page.see(evil, css="table")
    await page.open(f"message/{message_id}")
    await page.see(evil, css=".cards")
    assert page.all("main img") == [] and page.all("main b") == []


async def test_log_is_followed(api: Api, page: Page, log: io.StringIO) -> None:
    await page.open("log")
    await page.see("Log", css="h1")
    logging.getLogger("hermes.test").warning("something to see", extra={"carrier": "<i>telco</i>"})
    await page.see("something to see", "carrier=<i>telco</i>", css=".log")
    await page.type('input[placeholder="holds this text"]', "nothing holds this")
    await page.until(lambda: page.all(".log")[0].text == "", "lines that do not fit are hidden")


async def test_dead_letter_is_sent_again_after_a_yes(api: Api, page: Page) -> None:
    (letter,) = await dead_letters(api, 1)
    await page.open(f"dead-letters/{api.node.tenant}")
    await page.see("HTTP 500", "9", css="tbody tr")
    await page.click("tbody button", "Replay")
    await page.click("dialog button", "Leave it")
    assert [found.id for found in await api.node.journal.dead_letters(api.node.tenant, None, 10)] == [letter]
    await page.click("tbody button", "Replay")
    await page.click("dialog button", "Send again")
    await page.see("1 will be sent again", css="main")
    errors = [found.last_error for found in await api.node.journal.dead_letters(api.node.tenant, None, 10)]
    assert "HTTP 500" not in errors  # it was tried once more: there is no such endpoint


async def test_theme_follows_the_system_and_the_button(api: Api, page: Page) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    for scheme, colour in (("dark", "rgb(18, 22, 28)"), ("light", "rgb(246, 247, 249)")):
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        await page.do(partial(page.driver.execute_cdp_cmd, "Emulation.setEmulatedMedia", media))
        assert await page.script(background) == colour
    await page.click("#theme")
    assert await page.script(background) == "rgb(18, 22, 28)"
    await page.open("tree")
    await page.do(page.driver.refresh)
    await page.see("root", css=".tree")
    assert await page.script(background) == "rgb(18, 22, 28)"


async def test_keys_lead_to_every_view(api: Api, page: Page) -> None:
    for key, title in (
        *(("t", "Tree"), ("c", "Carriers"), ("n", "Tenants"), ("m", "Messages"), ("x", "Dead letters"), ("l", "Log")),
    ):
        await page.script("document.activeElement.blur()")
        await page.press("g", key)
        await page.see(title, css="h1")
    await page.script("document.activeElement.blur()")
    await page.press("?")
    await page.see("Keys", "Walk the tree", css="dialog")


@pytest.mark.slow
async def test_node_that_is_away_is_told_and_the_view_goes_on(api: Api, page: Page) -> None:
    await page.open("tree")
    await page.see("root", css=".tree")
    await page.do(lambda: page.driver.set_network_conditions(offline=True, latency=0, throughput=0))
    await page.see("The node does not answer", css="#away")
    await page.see("root", css=".tree")
    await page.do(page.driver.delete_network_conditions)
    await page.until(lambda: not page.all("#away:not([hidden])"), "it is back")


@pytest.mark.slow
async def test_thousands_of_carriers_tenants_and_messages_are_counts_and_pages(start: Start, new_page: NewPage) -> None:
    api = await start([mock(f"carrier-{n:04}", "sms", receipt_delay_ms=600_000) for n in range(1000)])
    for n in range(1000):
        await api.node.context.directory.create_tenant(f"tenant {n:04}")
    for _ in range(30):
        await api.sent()
    page = new_page(api)
    await page.log_in()
    await page.see("1,000 carriers", "1,001 tenants", css="main")
    await page.open("tree")
    await page.see("and 981 more", css=".tree")
    assert len(page.all(".tree .row")) < 1000
    await page.open("carriers")
    await page.see("100 of 1,000", css="main")
    assert len(page.all("tbody tr")) == 100
    await page.type("main input[type=search]", "carrier-0777")
    await page.until(lambda: [row.text.split()[0] for row in page.all("tbody tr")] == ["carrier-0777"], "it is found")
    await page.open("tenants")
    await page.see("1,001 of 1,001, page 1 of 21", css="main")
    assert len(page.all("tbody tr")) == 50
    await page.click("button", "Next")
    await page.see("page 2 of 21", css="main")
