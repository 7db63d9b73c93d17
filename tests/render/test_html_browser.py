"""The page in headless Chromium; skipped if it is not installed."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deadrelu.render import html
from deadrelu.render.trial import html as trial_html
from deadrelu.report import Report, Skipped
from tests.conftest import make_report, make_site, make_stats
from tests.render.trials import make_trial

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="no Chromium with its chromedriver is installed")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)

# The contrast of each text with the nearest opaque ground behind it, by the formula of WCAG 2.2.
CONTRAST = r"""
const linear = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
const light = (c) => { const [r, g, b] = c.map(linear); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const opaque = (text) => {
  const m = text.match(/^rgb\((\d+), (\d+), (\d+)\)$/);
  return m && m.slice(1).map(Number);
};
const out = [];
const texts = "h1, h2, h3, p, th, td, dt, dd, li, code, a, summary, figcaption, b, .sign";
for (const element of document.querySelectorAll(texts)) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.checkVisibility() || element.closest(".hidden")) continue;
  let behind = element, ground = null;
  while (behind && !(ground = opaque(getComputedStyle(behind).backgroundColor))) behind = behind.parentElement;
  const ink = opaque(getComputedStyle(element).color);
  const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
  out.push([(a + 0.05) / (b + 0.05), element.className, element.textContent.slice(0, 40)]);
}
return out;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser with a profile of its own, which keeps a log of its console and its requests."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def show(browser: webdriver.Chrome, tmp_path: Path) -> Callable[[str], webdriver.Chrome]:
    """Open a page from a file, with the logs emptied first."""

    def opened(text: str) -> webdriver.Chrome:
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(path.as_uri())
        return browser

    return opened


def requests(browser: webdriver.Chrome) -> list[str]:
    """Every address that the page has requested since it was opened, except itself and inline data."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    # The browser's own start page may still be asking for its parts.
    urls = [event["request"]["url"] for event in sent if event["documentURL"] == browser.current_url]
    assert urls  # the page itself: the log works
    return [url for url in urls if not url.startswith("data:") and url != browser.current_url]


def column(browser: webdriver.Chrome, number: int) -> list[str]:
    """The texts of one column of the table of sites."""
    script = "return [...document.querySelectorAll('#sites tbody tr')].map((r) => r.cells[arguments[0]].textContent)"
    return [str(text) for text in browser.execute_script(script, number)]


def click(browser: webdriver.Chrome, title: str) -> None:
    """Click the head of a column."""
    browser.find_element("xpath", f"//table[@id='sites']/thead//button[text()='{title}']").click()


def test_the_page_makes_no_request_and_no_console_error(
    canonical: Report, show: Callable[[str], webdriver.Chrome]
) -> None:
    browser = show(html.render(canonical))
    assert browser.get_log("browser") == []
    assert requests(browser) == []


def test_an_error_and_a_request_would_be_noticed(show: Callable[[str], webdriver.Chrome]) -> None:
    browser = show("<!doctype html><img src='missing.png'><script>throw new Error('seen')</script>")
    assert any("seen" in entry["message"] for entry in browser.get_log("browser"))
    assert [url.rpartition("/")[2] for url in requests(browser)] == ["missing.png"]


def test_the_dead_units_of_a_site_can_be_seen(canonical: Report, show: Callable[[str], webdriver.Chrome]) -> None:
    browser = show(html.render(canonical))
    cells = browser.find_elements("css selector", "#site-1 .map i.x")
    numbers = [int((cell.get_attribute("title") or "").split(":")[0].removeprefix("unit ")) for cell in cells]
    assert numbers == list(canonical.sites[1].dead_units) == [1, 5, 9, 10, 11]
    assert all(cell.is_displayed() and cell.size["width"] > 8 for cell in cells)
    script = "return getComputedStyle(document.querySelector(arguments[0])).backgroundImage"
    assert browser.execute_script(script, "#site-1 .map i.x") != browser.execute_script(script, "#site-1 .map i.k5")


def test_a_click_on_a_header_sorts_and_a_second_one_reverses_the_order(
    canonical: Report, show: Callable[[str], webdriver.Chrome]
) -> None:
    browser = show(html.render(canonical))
    assert column(browser, 4) == ["0", "5", "0", "8", "0", "1"]
    click(browser, "dead")
    assert column(browser, 4) == ["8", "5", "1", "0", "0", "0"]
    click(browser, "dead")
    assert column(browser, 4) == ["0", "0", "0", "1", "5", "8"]
    click(browser, "units")
    assert column(browser, 3) == ["64", "32", "24", "16", "8", "4"]
    click(browser, "headroom")
    assert column(browser, 9) == ["−0.1", "−0.2", "−0.4", "—", "—", "—"]
    click(browser, "headroom")
    assert column(browser, 9) == ["−0.4", "−0.2", "−0.1", "—", "—", "—"]
    click(browser, "site")
    assert [name[:4] for name in column(browser, 1)] == ["clas", "feat", "laye", "laye", "stem", 'we"i']
    sorted_by = browser.find_elements("css selector", "#sites thead [aria-sort]")
    assert [(head.text[:4], head.get_attribute("aria-sort")) for head in sorted_by] == [("site", "ascending")]


def test_the_filter_hides_rows_and_details(canonical: Report, show: Callable[[str], webdriver.Chrome]) -> None:
    browser = show(html.render(canonical))

    def shown() -> tuple[int, int]:
        rows = browser.find_elements("css selector", "#sites tbody tr")
        parts = browser.find_elements("css selector", "details.site")
        return sum(row.is_displayed() for row in rows), sum(part.is_displayed() for part in parts)

    assert shown() == (6, 6)
    browser.find_element("css selector", ".tools input[type=checkbox]").click()
    assert shown() == (3, 3)
    browser.find_element("css selector", ".tools input[type=search]").send_keys("LAYER1")
    assert shown() == (1, 1)


def test_without_a_script_the_table_and_the_maps_are_there(
    canonical: Report, show: Callable[[str], webdriver.Chrome], browser: webdriver.Chrome
) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        show(html.render(canonical))
        rows = browser.find_elements("css selector", "#sites tbody tr")
        assert [row.is_displayed() for row in rows] == [True] * 6
        assert browser.find_elements("css selector", "#sites thead button") == []
        assert not browser.find_element("css selector", ".tools").is_displayed()
        assert browser.find_element("css selector", "#site-1 .map").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_link_of_the_table_unfolds_a_healthy_site(canonical: Report, show: Callable[[str], webdriver.Chrome]) -> None:
    browser = show(html.render(canonical))
    part = browser.find_element("css selector", "#site-0 .map")
    assert not part.is_displayed()
    browser.find_element("link text", "stem.relu").click()
    assert part.is_displayed()


def test_on_paper_every_site_is_unfolded_and_the_tools_are_gone(
    canonical: Report, show: Callable[[str], webdriver.Chrome], browser: webdriver.Chrome
) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        show(html.render(canonical))
        script = "return [...document.querySelectorAll('.map')].map((picture) => picture.checkVisibility())"
        assert browser.execute_script(script) == [True] * 6
        assert not browser.find_element("css selector", ".tools").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("of_trial", [False, True])
def test_every_text_has_enough_contrast(
    canonical: Report, show: Callable[[str], webdriver.Chrome], browser: webdriver.Chrome, scheme: str, of_trial: bool
) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    show(trial_html.render(make_trial()).replace("<details", "<details open") if of_trial else html.render(canonical))
    measured = browser.execute_script(CONTRAST)
    assert len(measured) > 100
    assert [found for found in measured if found[0] < 4.5] == []  # WCAG 2.2, 1.4.3


@pytest.mark.parametrize("width", [340, 360, 400, 500, 1280])
def test_the_page_never_scrolls_sideways(
    canonical: Report, show: Callable[[str], webdriver.Chrome], browser: webdriver.Chrome, width: int
) -> None:
    long = canonical.sites["layer1.0.[red]relu#1"]
    wide = replace(long, site=replace(long.site, id="encoder_with_a_name_that_has_no_joint_anywhere" * 2))
    report = replace(canonical, sites=(*canonical.sites, wide))
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        show(html.render(report))
        script = "const page = document.scrollingElement; return [page.scrollWidth, page.clientWidth]"
        scrolled, seen = browser.execute_script(script)
        assert scrolled <= seen <= width
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [340, 400, 500, 1280])
def test_the_page_of_a_trial_never_scrolls_sideways_and_stays_silent(
    show: Callable[[str], webdriver.Chrome], browser: webdriver.Chrome, width: int
) -> None:
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    trial = make_trial()
    long = replace(trial.arms[-1], name="encoder_with_a_name_that_has_no_joint_anywhere" * 2)
    try:
        show(trial_html.render(replace(trial, arms=(*trial.arms[:-1], long))).replace("<details", "<details open"))
        script = "const page = document.scrollingElement; return [page.scrollWidth, page.clientWidth]"
        scrolled, seen = browser.execute_script(script)
        assert scrolled <= seen <= width
        assert browser.get_log("browser") == []
        assert requests(browser) == []
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_several_sites_fit_on_a_printed_page(
    show: Callable[[str], webdriver.Chrome], browser: webdriver.Chrome
) -> None:
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.ui import WebDriverWait

    def pages(count: int) -> int:
        sites = [make_stats(make_site(f"layer{n}.relu", 128), [0.0] * 9 + [0.4] * 119) for n in range(count)]
        show(html.render(make_report(sites)))
        paper = {"paperWidth": 8.27, "paperHeight": 11.69}
        busy = [WebDriverException]  # on a busy machine Chromium answers "Printing failed" at times
        printed = WebDriverWait(browser, 60, ignored_exceptions=busy).until(
            lambda shown: shown.execute_cdp_cmd("Page.printToPDF", paper)
        )
        return len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed["data"])))

    assert pages(13) - pages(1) <= 4


def test_hostile_names_stay_text_and_run_nothing(show: Callable[[str], webdriver.Chrome]) -> None:
    attack = "window.stolen = 1"
    names = [
        f"<script>{attack}</script>",
        f"<img src=x onerror='{attack}'>",
        f'" onmouseover="{attack}',
        f"</style>{attack}",
    ]
    sites = [make_stats(make_site(name, 2, after=name), [0.0, 0.5]) for name in names]
    skipped = tuple(Skipped(id=f"{name}!", op=name, reason=name) for name in names)
    browser = show(html.render(make_report(sites, skipped=skipped)))
    assert column(browser, 1) == names
    assert browser.execute_script("return window.stolen") is None
    assert browser.get_log("browser") == []
    assert requests(browser) == []
