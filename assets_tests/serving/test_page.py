"""The page in a real browser: scoring by hand, cases, what is blocked, and how it looks on small and large screens."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from assets_tests.serving.service_home import ALL_TOKEN, SCORE_TOKEN, Running, promote_copy, row, serving

pytestmark = [pytest.mark.slow, pytest.mark.browser]
CHROMIUM = shutil.which("chromium")
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def service(home: Path) -> Iterator[Running]:
    # Whatever is scored is flagged.
    promote_copy(home, threshold=0.0)
    with serving(home) as running:
        client = running.client()
        for card in (1, 2, 3):
            client.post("/v1/score", json={"row": row(card, CUSTOMER_ID=card)}).raise_for_status()
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (Debian package chromium; make test-slow as root installs it)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def opened(
    browser: Browser, service: Running, token: str = ALL_TOKEN, width: int = 1400, scheme: str = "light"
) -> Iterator[Page]:
    """The page, once somebody has typed a token in; at the end nothing may have gone against its policy."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security" in said.text else None)
    page.goto(f"{service.url}/")
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Use it").click()
    expect(page.locator("#tiles")).not_to_be_empty()
    yield page
    assert problems == []
    context.close()


def fill(page: Page, **columns: object) -> None:
    for name, value in columns.items():
        page.locator(f'input[name="{name}"]').fill(str(value))
    page.get_by_role("button", name="Score", exact=True).click()


def test_a_row_is_scored_by_hand_with_reasons_and_its_card_confirmed_and_blocked(
    browser: Browser, service: Running
) -> None:
    with opened(browser, service) as page:
        fill(page, CUSTOMER_ID=40, TERMINAL_ID=7, TX_AMOUNT="250.5")
        expect(page.locator("#probability")).to_contain_text("%")
        expect(page.locator("#answer .reasons li")).to_have_count(5)
        expect(page.locator("#answer")).to_contain_text("speaks")
        expect(page.locator("#answer")).not_to_contain_text("blocked")
        expect(page.locator("#recent tbody tr").first).to_contain_text("40")

        page.get_by_role("button", name="CUSTOMER_ID 40", exact=True).click()
        case = page.locator('[id="case 40-0"]')
        expect(case.locator(".reasons li")).to_have_count(5)
        case.get_by_label("Note").fill(MARKUP)
        case.get_by_role("button", name="Confirm").click()

        expect(case).to_contain_text("confirmed by all")
        expect(case).to_contain_text(MARKUP)
        expect(case).to_contain_text("reported")
        fill(page, CUSTOMER_ID=40)
        expect(page.locator("#answer")).to_contain_text("blocked")
        case.get_by_role("button", name="Take back").click()
        expect(case).to_contain_text("reopened by all")
        fill(page, CUSTOMER_ID=40, TX_AMOUNT=3)
        expect(page.locator("#answer")).not_to_contain_text("blocked")
        expect(page.locator("#probability")).to_be_visible()


def test_a_dismissed_case_is_open_no_more(browser: Browser, service: Running) -> None:
    with opened(browser, service) as page:
        page.get_by_role("button", name="CUSTOMER_ID 2", exact=True).click()
        case = page.locator('[id="case 2-0"]')
        case.get_by_role("button", name="Dismiss").click()

        expect(case.locator("> .head")).to_contain_text("dismissed")


def test_a_refused_row_says_why_and_marks_the_field(browser: Browser, service: Running) -> None:
    with opened(browser, service) as page:
        fill(page, TX_AMOUNT=-1)

        expect(page.locator("#answer [role=alert]")).to_contain_text("TX_AMOUNT")
        expect(page.locator('input[name="TX_AMOUNT"]')).to_have_attribute("aria-invalid", "true")


def test_a_token_without_a_scope_is_told_and_the_rest_goes_on(browser: Browser, service: Running) -> None:
    with opened(browser, service, token=SCORE_TOKEN) as page:
        expect(page.locator("#cases")).to_contain_text("has not the scope cases")
        fill(page, CUSTOMER_ID=41)
        expect(page.locator("#probability")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_the_page_fits_its_screen(browser: Browser, service: Running, width: int, scheme: str) -> None:
    with opened(browser, service, width=width, scheme=scheme) as page:
        fill(page, CUSTOMER_ID=42)
        expect(page.locator("#probability")).to_be_visible()
        page.locator("#cases button.plain").first.click()
        expect(page.locator("#cases .row").first).to_be_visible()

        assert page.evaluate("document.documentElement.scrollWidth") == width
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 22, 29)"
        assert dark == (scheme == "dark")
