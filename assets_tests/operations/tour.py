"""The walk of docs/tour.md in a real browser, step by step; it takes the page's pictures.

`python -m assets_tests.operations.tour` writes them into docs/images/tour.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from shutil import which

from playwright.sync_api import Browser, FloatRect, Page, TimeoutError, ViewportSize, expect, sync_playwright

from assets_tests.homes import CHECKOUT, call, day, folder_in_memory, land, session
from assets_tests.operations.served import Ui, owed, served, until
from my_platform.domains.fraud.simulator import land_correction

CHROMIUM = which("chromium")
expect.set_options(timeout=60_000)
DAYS = 49
CORRECTED, LOOKED_AT, BROKEN = 30, 33, 47
_PATIENCE_MS = 300_000
_A_MOMENT_MS = 15_000
_SERVICE_LEVEL_RUNS = """{ runsOrError(filter: {pipelineName: "service_levels"}) {
    ... on Runs { results { runId status } } } }"""
_SIZE: ViewportSize = {"width": 1400, "height": 850}
_IMAGES = CHECKOUT / "docs" / "images" / "tour"


@dataclass(frozen=True)
class Walk:
    """Somebody who walks through the UI of a home.

    Attributes:
        shoot: takes a picture of what is seen, or of a part of it, by name.
    """

    ui: Ui
    page: Page
    shoot: Callable[..., None]

    def open(self, path: str) -> None:
        self.page.goto(f"http://127.0.0.1:{self.ui.port}{path}")

    def see(self, *texts: str) -> None:
        for text in texts:
            expect(self.page.get_by_text(text).first).to_be_visible()

    def partition(self, asset: str, number: int) -> None:
        """Open what the UI says of a day of an asset."""
        self.open(f"/assets/{asset}?view=partitions&partition={day(number)}")
        self.see("fingerprint")


def look_at_the_graph(walk: Walk) -> None:
    """All that there is by groups, but for what checks it, what it is compared with, and what serves."""
    page = walk.page
    page.set_viewport_size({"width": 1500, "height": 1900})
    walk.open("/asset-groups")
    walk.see("features", "models")
    # What is typed into lies behind what shows it, where no mouse comes.
    page.get_by_role("textbox", name="Search and filter assets").focus()
    page.keyboard.type('not (group:"quality" or group:"references" or group:"serving")')
    page.keyboard.press("Enter")
    page.wait_for_timeout(_A_MOMENT_MS / 3)
    page.mouse.click(700, 1500)
    page.keyboard.press("Alt+E")
    page.wait_for_timeout(_A_MOMENT_MS / 3)
    # On the background: all of it, as large as there is room.
    page.mouse.dblclick(700, 1800)
    page.wait_for_timeout(_A_MOMENT_MS / 3)
    walk.see("fraud_lightgbm", "predictions")
    walk.shoot("graph", {"x": 550, "y": 340, "width": 940, "height": 1210})
    page.set_viewport_size(_SIZE)


def look_at_an_asset(walk: Walk) -> None:
    """Where a table comes from, what its columns are, who owns it."""
    walk.open("/assets/customer_spending")
    walk.see("validated/transactions: TRANSACTION_ID", "keep_up_to_date")
    walk.shoot("asset")


def materialize_a_fresh_partition(walk: Walk) -> None:
    """What is fresh is not computed again, and the event says so."""
    walk.partition("customer_spending", LOOKED_AT)
    walk.page.get_by_role("button", name="Materialize…").click()
    walk.see("Launch 1 run")
    walk.shoot("materialize")
    walk.page.get_by_role("button", name="Launch 1 run").click()
    launched(walk)

    def reused() -> bool:
        walk.partition("customer_spending", LOOKED_AT)
        return row_of(walk.page, "reused") == "true"

    until(reused)


def launched(walk: Walk) -> None:
    """Wait for the answer to what was pressed: who leaves the page before may have asked nothing."""
    expect(walk.page.get_by_role("dialog")).to_have_count(0)


def see_why_a_day_was_computed(walk: Walk) -> None:
    """A corrected file lands, nobody presses anything, and the event says what had changed."""
    walk.ui.start_sensor()
    land_correction(walk.ui.home / "landing", date.fromisoformat(day(CORRECTED)))
    changed = f"validated/transactions {day(CORRECTED)} changed: 1 of 31 inputs"

    def told() -> bool:
        walk.partition("customer_spending", LOOKED_AT)
        return row_of(walk.page, "cause").startswith(changed)

    until(told)
    walk.shoot("cause")
    walk.open("/runs")
    walk.see("keep_up_to_date")
    walk.shoot("runs")


def backfill_a_range(walk: Walk) -> None:
    """All days of a feature set at once: one run, and every day keeps a data version of its own."""
    walk.open("/assets/terminal_risk?view=partitions")
    walk.page.get_by_role("button", name="Materialize…").click()
    dialog = walk.page.get_by_role("dialog")
    dialog.get_by_role("button", name="All", exact=True).click()
    expect(dialog.get_by_text("Loading")).to_have_count(0)
    walk.shoot("backfill")
    dialog.get_by_role("button", name=re.compile("Launch")).last.click()
    launched(walk)
    walk.open("/overview/backfills")
    expect(walk.page.get_by_text("Success", exact=True).first).to_be_visible(timeout=_PATIENCE_MS)
    walk.shoot("backfills")


def break_a_day(walk: Walk) -> None:
    """A file that cannot be taken is refused: its check fails on that day, and the last good version stays."""
    file = walk.ui.home / "landing" / "transactions" / f"{day(BROKEN)}.parquet"
    good = file.read_bytes()
    before = walk.ui.versions()["validated/transactions"][day(BROKEN)]
    file.write_bytes(b"PAR1 and nothing else")

    def failed() -> bool:
        walk.open("/assets/raw/transactions?view=events")
        try:
            walk.page.get_by_text("refused", exact=True).first.wait_for(timeout=_A_MOMENT_MS)
        except TimeoutError:
            return False
        return True

    until(failed)
    walk.shoot("refused")
    walk.open(f"/assets/raw/transactions?view=partitions&partition={day(BROKEN)}")
    walk.see("Failed (1)", "cannot be read as a Parquet file")
    walk.shoot("failed-day")
    assert walk.ui.versions()["validated/transactions"][day(BROKEN)] == before
    file.write_bytes(good)
    until(lambda: not owed(walk.ui.home))


def read_the_report(walk: Walk) -> None:
    """Each tested week has a page that can be read anywhere."""
    report = sorted((walk.ui.home / "reports" / "fraud").glob("*/*.html"))[-1]
    walk.page.goto(report.as_uri())
    walk.see("average precision")
    walk.shoot("report")


def see_a_model(walk: Walk) -> None:
    """What a week's model was fitted on, and where it is registered."""
    week = max(walk.ui.versions()["fraud_lightgbm"])
    walk.open(f"/assets/fraud_lightgbm?view=partitions&partition={week}")
    walk.see("registered", "training_set_digest")
    walk.shoot("model")


def promote_and_roll_back(walk: Walk) -> None:
    """Two models are promoted by hand and the second one is taken back; the job shows that it counts as a miss."""
    home = walk.ui.home
    weeks = sorted(walk.ui.versions()["fraud_lightgbm"])[-2:]
    for week in weeks:
        call(home, "promote", f"fraud_lightgbm@{week}", "--force", "--reason", "the tour")
    call(home, "rollback", "--reason", "too many alarms")
    walk.open("/locations/my_platform/jobs/service_levels")
    walk.page.get_by_role("tab", name="Launchpad").or_(
        walk.page.get_by_role("link", name="Launchpad")
    ).first.click()
    walk.page.get_by_role("button", name="Launch Run").click()

    def linked() -> bool:
        found = walk.ui.ask(_SERVICE_LEVEL_RUNS)["runsOrError"]["results"]
        if not found or found[0]["status"] != "SUCCESS":
            return False
        walk.open(f"/runs/{found[0]['runId']}")
        return True

    until(linked)
    walk.see("page_url")
    walk.page.goto((home / "reports" / "service-levels" / "index.html").as_uri())
    walk.see("rollbacks")


STEPS = (
    look_at_an_asset,
    materialize_a_fresh_partition,
    see_why_a_day_was_computed,
    backfill_a_range,
    break_a_day,
    read_the_report,
    see_a_model,
    promote_and_roll_back,
    look_at_the_graph,
)


def row_of(page: Page, label: str) -> str:
    """What a table of metadata says beside a label."""
    row = page.locator("tr", has=page.get_by_role("cell", name=label, exact=True)).first
    return row.locator("td").nth(1).inner_text().strip()


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def begun(shoot_into: Path | None = None) -> Iterator[Walk]:
    """A walk on a home that is up to date and served, its sensor stopped."""
    with folder_in_memory() as folder:
        home = folder / "a home"
        land(home / "landing", DAYS, customers=100, terminals=200)
        with session(home) as opened:
            assert opened.refresh().problems == []
        with served(home) as ui, browser() as found:
            ui.stop_sensor()
            page = found.new_page(viewport=_SIZE)
            page.set_default_timeout(60_000)

            def shoot(name: str, part: FloatRect | None = None) -> None:
                if shoot_into is not None:
                    page.screenshot(path=shoot_into / f"{name}.png", clip=part)

            yield Walk(ui, page, shoot)


if __name__ == "__main__":
    _IMAGES.mkdir(parents=True, exist_ok=True)
    with begun(_IMAGES) as begun_walk:
        for step in STEPS:
            step(begun_walk)
