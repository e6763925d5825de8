"""A real Chromium without a screen, for tests of the console. Skipped where there is none."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.gateway.api import OPERATOR, Api, start_api, stop_api

T = TypeVar("T")
SOON_S = 15.0  # for what takes milliseconds; the machine is shared
POLL_S = 0.05


class Page:
    """One tab. Everything blocks on the browser, so everything runs in a thread of its own."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    async def do(self, act: Callable[[], T]) -> T:
        return await asyncio.to_thread(act)

    async def open(self, hash: str = "") -> None:
        """Show a view of the console."""
        await self.do(lambda: self.driver.get(f"{self.url}/console#/{hash}"))

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Ask until the answer is true; elements may change under our hands."""
        end = time.monotonic() + SOON_S
        while True:
            try:
                found = await self.do(condition)
            except StaleElementReferenceException:
                found = None
            if found:
                return found
            if time.monotonic() > end:
                seen = await self.do(lambda: self.driver.find_element(By.TAG_NAME, "body").text)
                raise AssertionError(f"not within {SOON_S:g} s: {what}; the page says:\n{seen}")
            await asyncio.sleep(POLL_S)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    async def see(self, *texts: str, css: str = "body") -> None:
        """Wait until an element shows all these texts."""

        def seen() -> bool:
            return any(all(text in element.text for text in texts) for element in self.all(css))

        await self.until(seen, f"{css} shows {texts}")

    async def click(self, css: str, text: str = "") -> None:
        """Click the first visible element that holds the text."""

        def clicked() -> bool:
            for element in self.all(css):
                if element.is_displayed() and text in element.text:
                    try:
                        element.click()
                    except StaleElementReferenceException:
                        return False
                    return True
            return False

        await self.until(clicked, f"there is {css} with {text!r} to click")

    async def type(self, css: str, text: str) -> None:
        element = await self.until(lambda: next(iter(self.all(css)), None), css)
        await self.do(lambda: element.send_keys(text))

    async def press(self, *keys: str) -> None:
        """Press keys on whatever has the focus."""

        def pressed() -> None:
            for key in keys:
                self.driver.switch_to.active_element.send_keys(key)

        await self.do(pressed)

    async def script(self, code: str, *arguments: Any) -> Any:
        return await self.do(lambda: self.driver.execute_script(code, *arguments))

    async def errors(self) -> list[str]:
        """What the browser complained of; a refused request is no complaint of ours."""
        entries = await self.do(lambda: self.driver.get_log("browser"))
        return [
            e["message"] for e in entries if e["level"] == "SEVERE" and "Failed to load resource" not in e["message"]
        ]

    async def log_in(self) -> None:
        await self.open()
        await self.type("#key", OPERATOR + Keys.ENTER)
        await self.until(lambda: self.all("header:not([hidden])"), "the console opens")


@pytest.fixture(scope="session")
def driver() -> Iterator[webdriver.Chrome]:
    """The browser; one for all tests, because its start takes a second."""
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no chromium with its chromedriver on this machine (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000"),
        *("--disable-background-networking", "--disable-component-update", "--no-first-run", "--no-proxy-server"),
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # this machine and nothing else
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    try:
        started = webdriver.Chrome(options=options, service=Service(chromedriver))
    except WebDriverException as error:
        pytest.skip(f"chromium does not start here: {error.msg}")
    yield started
    started.quit()


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """Starts nodes with settings of the test's choice, and ends them."""
    started: list[Api] = []

    async def make(*args: Any, **settings: Any) -> Api:
        started.append(await start_api(*args, **settings))
        return started[-1]

    yield make
    for api in started:
        await stop_api(api)


@pytest.fixture
async def new_page(driver: webdriver.Chrome) -> AsyncIterator[Callable[[Api], Page]]:
    """Makes the page of a node, with no session and nothing remembered; the browser must not complain."""
    made: list[Page] = []

    def make(api: Api) -> Page:
        made.append(Page(driver, api.url))
        return made[-1]

    await asyncio.to_thread(driver.get_log, "browser")  # of tests before
    yield make
    for page in made:
        complaints = await page.errors()
        await page.do(lambda: driver.execute_script("localStorage.clear()"))
        await page.do(driver.delete_all_cookies)
        await page.do(lambda: driver.get("about:blank"))
        assert complaints == []


@pytest.fixture
async def api(start: Callable[..., Awaitable[Api]]) -> Api:
    """A node with a mock carrier for each channel."""
    return await start()


@pytest.fixture
async def page(api: Api, new_page: Callable[[Api], Page]) -> Page:
    """The console of that node, logged in."""
    made = new_page(api)
    await made.log_in()
    return made
