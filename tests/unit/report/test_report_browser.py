"""The page in a browser: it draws, sorts, filters, changes its colours, and loads nothing."""

import shutil
import time

import pytest
import reportkit as kit

from spikeloom.report.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.long,
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium or no chromedriver"),
]

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=document.title='x'>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    selenium = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = selenium.ChromeOptions()
    options.binary_location = CHROMIUM
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1400,1000",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = selenium.Chrome(options=options, service=Service(executable_path=DRIVER))
    yield Page(driver)
    driver.quit()


class Page:
    """A page under test."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path):
        self.driver.get(path.resolve().as_uri())
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def click(self, selector):
        self.run("document.querySelector(arguments[0]).click()", selector)

    def until(self, script, looks=6000):
        """Wait until an expression is true."""
        for _ in range(looks):
            if self.run(f"return {script}"):
                return
            time.sleep(0.02)
        raise AssertionError(f"never true: {script}")

    def column(self, heading):
        """The numbers of a column from the top, without rows that have none."""
        return self.run(
            "const c = [...document.querySelectorAll('#entries thead th[data-c]')]"
            ".find((th) => th.textContent === arguments[0]).dataset.c;"
            "return [...document.querySelectorAll(`#entries tbody [data-c='${c}']`)]"
            ".filter((td) => td.dataset.v !== undefined && td.offsetParent)"
            ".map((td) => Number(td.dataset.v))",
            heading,
        )

    def labels(self):
        return self.run(
            "return [...document.querySelectorAll('#entries tbody tr[data-e]')]"
            ".filter((row) => row.offsetParent)"
            ".map((row) => row.querySelector('.label > span').textContent)"
        )

    def heading(self, name):
        return self.run(
            "return [...document.querySelectorAll('#entries thead th[data-c]')]"
            ".find((th) => th.textContent === arguments[0])",
            name,
        )

    def draw_all(self):
        """Scroll every figure into view and wait for it."""
        for place in range(self.run("return document.querySelectorAll('.plot').length")):
            plot = f"document.querySelectorAll('.plot')[{place}]"
            self.run(f"{plot}.scrollIntoView()")
            self.until(f"{plot}.querySelector('svg') !== null")

    def quiet(self):
        """Check that nothing went wrong and nothing was loaded."""
        log = [one for one in self.driver.get_log("browser") if one["level"] != "INFO"]
        assert not log, log
        assert self.run("return performance.getEntriesByType('resource').length") == 0


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Nine entries of every kind."""
    folder = tmp_path_factory.mktemp("demo")
    runs = {
        name: [kit.run(0.95 + 0.005 * n + 0.002 * s, rule=name, seed=s, size=n) for s in (0, 1)]
        for n, name in enumerate(("bptt", "sltt", "ottt", "dsr", "na"), start=1)
    }
    entries = [kit.entry("ANN", kit.run(rule="ann", spiking=False), block="common")]
    entries += [kit.entry(name.upper(), *own, block="common") for name, own in runs.items()]
    entries[2]["runs"][0]["curve"][0]["health"][0]["verdict"] = "dead"
    entries += [
        kit.entry("frozen", kit.run(0.7), control=True, block="control"),
        kit.entry("IDE", refusal=f"needs feedback {HOSTILE}", block="native"),
        kit.entry(HOSTILE, kit.run(0.96, classes=[HOSTILE] * 10), block="native"),
    ]
    kit.write_comparison(folder, entries, traces=True)
    return write_page([folder], folder / "report.html")


def test_it_draws_without_an_error_and_loads_nothing(browser, demo):
    page = browser.open(demo)
    page.draw_all()
    names = page.run("return [...document.querySelectorAll('.plot')].map((p) => p.dataset.chart)")
    assert names[:3] == ["loss", "accuracy", "cost:strict"]
    assert names[-4:] == ["rates", "steps", "forming", "traces"]
    lines = page.run("return document.querySelectorAll('[data-chart=loss] .lines path').length")
    assert lines >= 9
    assert page.run("return document.querySelectorAll('[data-chart=rates] image').length") == 1
    assert page.run("return document.title") == "demo · spikeloom"
    assert page.run("return document.querySelectorAll('img').length") == 0
    page.quiet()


def test_a_heading_sorts_by_number_and_back(browser, demo):
    page = browser.open(demo)
    heading = page.heading("training memory, MB")
    page.run("arguments[0].querySelector('button').click()", heading)
    assert heading.get_attribute("aria-sort") == "descending"
    numbers = page.column("training memory, MB")
    common = numbers[:6]
    assert common == sorted(common, reverse=True) and common[0] == 55  # 9.0 is not above 55.0
    page.run("arguments[0].querySelector('button').click()", heading)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.column("training memory, MB")[:6] == sorted(common)
    page.quiet()


def test_sorting_by_keyboard_and_by_name(browser, demo):
    from selenium.webdriver.common.keys import Keys

    page = browser.open(demo)
    heading = page.heading("entry")
    page.run("arguments[0].querySelector('button').focus()", heading)
    page.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.labels()[:6] == ["ANN", "BPTT", "DSR", "NA", "OTTT", "SLTT"]
    others = page.run("return document.querySelectorAll('th[aria-sort=ascending]').length")
    assert others == 1


def test_rows_without_a_number_stay_at_the_end(browser, demo):
    page = browser.open(demo)
    for _ in range(2):
        page.run("arguments[0].querySelector('button').click()", page.heading("ANN / SNN energy"))
        common, native = page.labels()[:6], page.labels()[6:8]
        assert common[-1] == "ANN" and native[-1] == "IDE"


def test_the_filter_acts_on_table_and_figures(browser, demo):
    page = browser.open(demo)
    page.draw_all()
    page.run(
        "const box = document.getElementById('filter'); box.value = 'SLTT';"
        "box.dispatchEvent(new Event('input'))"
    )
    page.until("document.getElementById('count').textContent === '1 of 9'")
    assert page.labels() == ["SLTT"]
    page.run("document.querySelector('[data-chart=loss]').scrollIntoView()")
    page.until("document.querySelectorAll('[data-chart=loss] .scatterlayer .trace').length === 2")
    page.run("document.querySelector('[data-chart=rates]').scrollIntoView()")
    page.until("document.querySelector('[data-chart=rates] .bars') !== null")
    page.run(
        "const box = document.getElementById('filter'); box.value = '';"
        "box.dispatchEvent(new Event('input'))"
    )
    page.until("document.getElementById('count').textContent === ''")
    assert len(page.labels()) == 9
    page.quiet()


def test_a_click_brings_an_entry_forward(browser, demo):
    page = browser.open(demo)
    page.run("document.querySelector('[data-chart=loss]').scrollIntoView()")
    page.until("document.querySelector('[data-chart=loss] .lines path') !== null")
    wide = (
        "[...document.querySelectorAll('[data-chart=loss] .lines path')]"
        ".filter((path) => path.style.strokeWidth === '2.8px').length"
    )
    assert page.run(f"return {wide}") == 0
    page.click(".legend button[data-e='2']")
    page.until(f"{wide} === 1")
    assert page.run("return document.querySelector('#entries tr.picked').dataset.e") == "2"
    page.click("#clear")
    page.until(f"{wide} === 0")
    page.quiet()


def test_light_and_dark(browser, demo):
    page = browser.open(demo)
    page.run("document.querySelector('[data-chart=loss]').scrollIntoView()")
    page.until("document.querySelector('[data-chart=loss] svg') !== null")
    paper = "return getComputedStyle(document.body).backgroundColor"
    ink = "return getComputedStyle(document.querySelector('[data-chart=loss] .xtick text')).fill"
    before = page.run(paper), page.run(ink)
    page.click("#theme")
    assert page.run(paper) != before[0]
    page.until(f"({ink.removeprefix('return ')}) !== '{before[1]}'")
    page.click("#theme")
    assert page.run(paper) == before[0]
    page.quiet()


def test_columns_can_be_left_out(browser, demo):
    page = browser.open(demo)
    assert page.column("training time, s") and not page.column("backward MAC")
    page.click("[data-group='training']")
    assert page.column("backward MAC")
    page.click("[data-group='main']")
    assert not page.column("training time, s") and page.column("backward MAC")


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_the_table_is_whole_at_every_width(browser, demo, width):
    """On a desktop the main columns need no scrolling; names stay in sight where others do."""
    page = browser.open(demo)
    page.driver.set_window_size(width, 900)
    try:
        box = "document.querySelector('#scores .scroll')"
        wide = f"return {box}.scrollWidth - {box}.clientWidth"
        assert page.run("return document.documentElement.scrollWidth") <= max(width, 500)
        if width > 500:
            assert page.run(wide) <= 0
        for group in ("size", "operations", "paper", "training"):
            page.click(f"[data-group='{group}']")
        page.run(f"{box}.scrollLeft = 10000")
        left = "document.querySelector('#entries tbody tr[data-e] .label').getBoundingClientRect()"
        assert page.run(f"return {left}.left - {box}.getBoundingClientRect().left") >= 0
        page.quiet()
    finally:
        page.driver.set_window_size(1400, 1000)


def test_curves_change_with_their_buttons(browser, demo):
    page = browser.open(demo)
    page.run("document.querySelector('[data-chart=loss]').scrollIntoView()")
    page.until("document.querySelector('[data-chart=loss] .xtitle') !== null")
    for value, title in (("seconds", "training time (s)"), ("training", "training loss")):
        page.click(f"[data-value='{value}']")
        found = f"document.querySelector('[data-chart=loss] .{'x' if 's)' in title else 'y'}title')"
        page.until(f"{found}.textContent === '{title}'")
    page.quiet()


def test_samples_can_be_chosen(browser, demo):
    page = browser.open(demo)
    page.run("document.getElementById('samples').scrollIntoView()")
    verdict = "return document.getElementById('verdict').textContent"
    first = page.run(verdict)
    assert first.startswith("Test sample 0. Label: 0.")
    page.run("document.querySelectorAll('#thumbs button')[3].click()")
    assert page.run(verdict).startswith("Test sample 30. Label: 3.")
    painted = page.run(
        "const canvas = document.getElementById('picture');"
        "return new Set(canvas.getContext('2d').getImageData(0, 0, 8, 8).data).size"
    )
    assert painted > 10
    page.until("document.querySelectorAll('[data-chart=traces] .heatmaplayer image').length === 3")
    page.run(
        "const box = document.getElementById('sample-entry'); box.selectedIndex = 2;"
        "box.dispatchEvent(new Event('change'))"
    )
    page.until("document.querySelector('[data-chart=forming] svg') !== null")
    page.quiet()


@pytest.mark.parametrize("width", [420, 820, 1400])
def test_nothing_is_wider_than_the_window(browser, demo, width):
    page = browser.open(demo)
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page.draw_all()
        root = "return document.documentElement"
        assert page.run(f"{root}.scrollWidth") == page.run(f"{root}.clientWidth") > width - 20
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_one_run(browser, tmp_path):
    kit.write_run(tmp_path, kit.run(), kit.samples(steps=32))
    page = browser.open(write_page([tmp_path], tmp_path / "report.html"))
    page.draw_all()
    assert page.run("return document.querySelector('.legend').offsetParent") is None
    assert page.run("return document.querySelectorAll('[data-chart=rates] .bars path').length") == 3
    page.quiet()


def test_runs_without_numbers(browser, tmp_path):
    kit.write_comparison(tmp_path, [kit.entry("a", refusal="no"), kit.entry("b")])
    page = browser.open(write_page([tmp_path], tmp_path / "report.html"))
    assert page.run("return document.querySelectorAll('.plot').length") == 0
    assert page.labels() == ["a", "b"]
    page.quiet()


def test_sixty_entries_wait_with_figures_until_they_are_seen(browser, tmp_path):
    kit.write_comparison(tmp_path, kit.many(), traces=True)
    page = browser.open(write_page([tmp_path], tmp_path / "report.html"))
    page.run("arguments[0].querySelector('button').click()", page.heading("test accuracy, %"))
    numbers = page.column("test accuracy, %")
    assert len(numbers) == 58 and numbers == sorted(numbers, reverse=True)
    traces = "document.querySelectorAll('[data-chart=accuracy] .trace').length"
    assert page.run(f"return {traces}") == 0
    page.run("document.querySelector('[data-chart=accuracy]').scrollIntoView()")
    page.until(f"{traces} >= 58")
    page.draw_all()
    page.quiet()
