"""The page in a real browser. Skipped where Playwright or Chromium is not installed."""

import csv
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from study_factory import Run, dataset, write_study
from unfreeze.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

NASTY = "<img src=x onerror=document.title='run'> \"quoted\" 🙂 שלום </script><script>document.title='run'</script>"
RUNS = [
    *(Run("LoRA <b>r8", seed, range(seed, 6 + seed), cost={"train_seconds": 100.0}) for seed in (0, 1)),
    *(Run("head-only", seed, range(25 + seed), cost={"train_seconds": 10.0}) for seed in (0, 1)),
    Run("stuck", 0, range(45)),
    Run("full", status="diverged"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_study(tmp_path_factory.mktemp("study"), RUNS, dataset(text=NASTY))).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto(address)
    yield page
    page.close()


def test_no_error_no_request_and_no_text_runs(browser, address):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    said, fetched = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(address)
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
    assert said == []
    assert [url for url in fetched if not url.startswith(("data:", "blob:"))] == [address]
    assert page.title() == "handmade · unfreeze"
    assert page.locator("b, img").count() == 0


@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_overflows(browser, address, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address)
    for plot in page.locator(".plot").all():
        plot.scroll_into_view_if_needed()
        plot.locator(".main-svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_leaderboard_sorts(page):
    names = page.locator("#leaderboard tbody th")
    assert names.all_text_contents() == ["LoRA <b>r8", "head-only", "stuck", "full"]
    page.get_by_role("button", name="Train time").first.click()
    assert names.all_text_contents() == ["LoRA <b>r8", "stuck", "head-only", "full"]
    page.get_by_role("button", name="Train time").first.click()
    assert names.all_text_contents() == ["head-only", "stuck", "LoRA <b>r8", "full"]


def test_mistakes_are_searched_filtered_and_saved(page):
    listing = page.locator("#sure-mistakes")
    rows, count = listing.locator("tbody tr"), listing.locator(".count")
    assert count.text_content() == f"{6 + 6 + 25 + 26 + 45} rows"
    listing.get_by_label("Run").select_option(label="head-only · seed 1")
    assert count.text_content() == "26 rows"
    listing.get_by_label("Gold").select_option(label="neutral")
    assert set(rows.locator("td:nth-child(4)").all_text_contents()) == {"neutral"}
    listing.get_by_role("searchbox").fill("no such text")
    assert count.text_content() == "0 rows"
    listing.get_by_role("searchbox").fill("שלום")
    shown = int(count.text_content().split()[0])
    with page.expect_download() as download:
        listing.get_by_role("button", name="CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        saved = list(csv.reader(file))
    assert len(saved) == shown + 1
    assert saved[1][1].startswith(NASTY)


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_saved_text_is_a_formula(browser, tmp_path, start):
    data = dataset(text=f"{start}1+1", labels=(f"{start}yes", "no", "maybe"))
    page = browser.new_page()
    page.goto(write_report(write_study(tmp_path, RUNS[:2], data)).as_uri())
    for holder, text, number in (("#sure-mistakes", 1, -2), ("#label-balance", 0, 1)):
        part = page.locator(holder)
        part.scroll_into_view_if_needed()
        with page.expect_download() as download:
            part.get_by_role("button", name="CSV").click()
        with open(download.value.path(), encoding="utf-8", newline="") as file:
            saved = list(csv.reader(file))
        assert saved[1][text].startswith(f"'{start}")
        assert float(saved[1][number]) > 0
    page.close()


def test_the_strategy_chooser(page):
    summary, [first, second] = page.locator(".flips .reading"), page.locator(".flips select").all()
    assert summary.text_content().startswith("19 examples are right only in LoRA <b>r8 · seed 0, 0 only in head-only")
    first.select_option(label="head-only · seed 0")
    assert summary.text_content() == "Choose two different runs."
    second.select_option(label="LoRA <b>r8 · seed 0")
    assert summary.text_content().startswith("0 examples are right only in head-only · seed 0, 19 only in LoRA <b>r8")


def test_the_axis_chooser_and_a_figures_table(page):
    figure = page.locator("#trade-off")
    figure.scroll_into_view_if_needed()
    figure.get_by_role("combobox").select_option(label="Trainable parameters")
    assert figure.locator(".xtitle").text_content() == "Trainable parameters"
    with page.expect_download() as download:
        figure.get_by_role("button", name="CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        assert [row["strategy"] for row in csv.DictReader(file)] == ["LoRA <b>r8", "head-only", "stuck"]


def test_dark_plots_have_light_ink(browser, address):
    page = browser.new_page(color_scheme="dark", viewport={"width": 1440, "height": 900})
    page.goto(address)
    page.locator("#trade-off").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#trade-off .canvas')._fullLayout?.font.color === '#e4e7eb'")
    page.locator("#confusion").scroll_into_view_if_needed()
    cell = page.locator("#confusion .heatmap-label text").first
    playwright.expect(cell).to_have_css("fill", "rgb(228, 231, 235)")
    page.close()
