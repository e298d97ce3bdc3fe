"""The page in a real browser: it renders, filters, opens what is behind a number, prints, and complains of nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from chromium import Chromium, find_chromium
from PIL import Image
from sample_report import Held, sample_report, table_of

from harness.reporting.page import Report, write_page
from harness.reporting.render import ours_text

BYOL = '#table5b td[data-cell="5b:byol"] button'
HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"


@dataclass(frozen=True)
class Opened:
    """The browser, the page's file, and the report that it was written from."""

    browser: Chromium
    file: Path
    report: Report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    binary = find_chromium()
    if binary is None:
        pytest.skip("no Chromium: install Debian's chromium-headless-shell, or name another with HARNESS_CHROMIUM")
    made = Chromium(binary, tmp_path_factory.mktemp("browser"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def written(browser: Chromium, tmp_path_factory: pytest.TempPathFactory) -> Opened:
    report = sample_report(tables=("3", "10", "5b", "16"))
    return Opened(browser, write_page(report, tmp_path_factory.mktemp("page")), report)


@pytest.fixture
def page(written: Opened) -> Iterator[Opened]:
    """Loaded anew; whatever the test did, the console must have stayed silent."""
    written.browser.open(written.file)
    yield written
    assert written.browser.complaints == []


def ratio(first: str, second: str) -> float:
    """The contrast of two colours as WCAG 2 defines it, from 1 to 21."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("width", [375, 768, 1280])
def test_the_page_never_scrolls_sideways(page: Opened, width: int) -> None:
    """On a phone too: a wide table scrolls in its own box, with its row names in sight."""
    page.browser.open(page.file, width=width, height=800)
    assert page.browser.run("document.documentElement.scrollWidth") <= width
    moved = page.browser.run(
        "(() => { const box = document.querySelector('#table3 .box'); box.scrollLeft = 150;"
        "return [box.scrollLeft, box.querySelector('tbody th').getBoundingClientRect().left"
        " - box.getBoundingClientRect().left]; })()"
    )
    assert moved == [150, 0]


def test_filters(page: Opened) -> None:
    """One state, then two, then one verdict of them: what stays agrees with the tables, and all comes back."""
    numbers = [number for table in page.report.tables for number in table.numbers.values()]
    shown = (
        "[...document.querySelectorAll('td[data-status]')]"
        ".filter(td => td.offsetParent && !td.classList.contains('dim')).map(td => td.dataset.status)"
    )
    count = {status: sum(number.status == status for number in numbers) for status in ("failed", "pending")}
    assert all(count.values())
    assert len(page.browser.run(shown)) == len(numbers)
    page.browser.click("#filter input[value=failed]")
    assert page.browser.run(shown) == ["failed"] * count["failed"]
    assert (
        page.browser.run("document.querySelector('output').value")
        == f"{count['failed']} of {len(numbers)} numbers shown"
    )
    assert page.browser.run("document.getElementById('table10').hidden")
    page.browser.click("#filter input[value=pending]")
    assert len(page.browser.run(shown)) == count["failed"] + count["pending"]
    page.browser.click("#filter [type=reset]")
    page.browser.run("new Promise(requestAnimationFrame)")
    assert len(page.browser.run(shown)) == len(numbers)
    page.browser.click("#filter input[value=equivalent]")
    equivalent = sum(number.verdict is not None and number.verdict.name == "equivalent" for number in numbers)
    assert len(page.browser.run(shown)) == equivalent > 0


def test_a_click_opens_what_is_behind_a_number(page: Opened) -> None:
    """All of it: seeds and values, keys, commit, hardware, hours, the run's page, the command, and the spec."""
    number = table_of(page.report, "5b").numbers["byol", "linear_imagenet.top1"]
    page.browser.click(BYOL)
    assert page.browser.run("document.querySelector('dialog').open")
    text = page.browser.run("document.querySelector('dialog').innerText")
    for seed, value in number.values.items():
        assert f"Seed {seed}: {value:.6g}" in text
    for key in number.run_keys:
        assert key in text
    for fact in ("0123456789abcdef", "NVIDIA A100", "24 GPU-hours", "harness explain table5b:byol --profile imagenet"):
        assert fact in text
    link = f"https://mlflow.example.org/lab/#/experiments/7/runs/run-{number.run_keys[0]}"
    assert page.browser.run(f"!!document.querySelector('dialog a[href=\"{link}\"]')")
    page.browser.click("dialog summary")
    assert "objective.target" in page.browser.run("document.querySelector('dialog details').innerText")
    page.browser.click("dialog form button")
    assert not page.browser.run("document.querySelector('dialog').open")


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_the_keyboard_alone_is_enough(page: Opened, key: str) -> None:
    """Tab reaches the numbers, a key opens, Escape closes, and the focus is where it was."""
    page.browser.run(f"document.querySelector('{BYOL}').closest('.box').focus()")
    page.browser.press("Tab")
    assert page.browser.run(f"document.activeElement === document.querySelector('{BYOL}')")
    page.browser.press(key)
    assert page.browser.run("document.querySelector('dialog').open")
    assert page.browser.run("document.querySelector('dialog').contains(document.activeElement)")
    page.browser.press("Escape")
    assert not page.browser.run("document.querySelector('dialog').open")
    assert page.browser.run(f"document.activeElement === document.querySelector('{BYOL}')")


def test_runs_that_failed_or_go_on_say_so(page: Opened) -> None:
    """Behind a number that is not there yet stand the reason, or how far the run is."""
    cells = list(table_of(page.report, "5b").cells)
    for place, said in ((1, "CUDA out of memory"), (2, "could not be read"), (3, "running, 25 % done")):
        page.browser.click(f'#table5b td[data-cell="5b:{cells[place]}"] button')
        assert said in page.browser.run("document.querySelector('dialog').innerText")
        page.browser.press("Escape")


def test_hostile_texts_do_nothing(page: Opened, tmp_path: Path) -> None:
    """Neither in the page nor in the dialog, whose text a script puts there."""
    table = table_of(page.report, "5b")
    key = table.numbers["byol", "linear_imagenet.top1"].run_keys[0]
    results = page.report.results
    assert isinstance(results, Held)
    held = Held(results.uri, dict(results.stored), dict(results.records))
    held.hold(replace(results.records[key], error=HOSTILE, commit=HOSTILE))
    hostile = replace(
        page.report, tables=(replace(table, layout=replace(table.layout, caption=HOSTILE)),), results=held
    )
    page.browser.open(write_page(hostile, tmp_path))
    page.browser.click(BYOL)
    assert HOSTILE in page.browser.run("document.querySelector('dialog').innerText")
    assert page.browser.run("document.title") == "BYOL tables, profile imagenet"
    assert page.browser.run("document.querySelectorAll('img').length") == 0


def test_the_policy_stops_scripts_that_are_not_ours(page: Opened, tmp_path: Path) -> None:
    """Were a text ever to become part of the page, the browser would still not obey it."""
    spoilt = tmp_path / "index.html"
    spoilt.write_text(page.file.read_text().replace("</body>", "<script>document.title = 'owned'</script></body>"))
    page.browser.open(spoilt)
    assert page.browser.run("document.title") != "owned"
    assert any("Content Security Policy" in complaint for complaint in page.browser.complaints)
    page.browser.complaints.clear()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(page: Opened, scheme: str) -> None:
    """Every state, verdict, link and note has at least 4.5 to 1 against each ground it stands on, in both schemes."""
    page.browser.open(page.file, media={"prefers-color-scheme": scheme})
    selectors = ("#filter span", ".ours small", ".paper", ".notes", "nav a", ".ours button", "td", "thead th")
    for selector in selectors:
        pairs = page.browser.run(
            f"[...document.querySelectorAll({selector!r})].map(e => [getComputedStyle(e).color, (() => {{"
            "let at = e; while (getComputedStyle(at).backgroundColor === 'rgba(0, 0, 0, 0)') at = at.parentElement;"
            "return getComputedStyle(at).backgroundColor; })()])"
        )
        assert pairs
        assert min(ratio(*pair) for pair in map(tuple, pairs)) >= 4.5, selector
    dark = page.browser.run("getComputedStyle(document.body).backgroundColor")
    assert (ratio(dark, "rgb(255, 255, 255)") > 10) == (scheme == "dark")


def test_without_javascript_everything_is_there(page: Opened) -> None:
    """All numbers with their states in words; what would need a script is not shown."""
    page.browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.browser.open(page.file)
        assert page.browser.run("getComputedStyle(document.getElementById('filter')).display") == "none"
        text = page.browser.run("document.getElementById('table5b').innerText")
        for number in table_of(page.report, "5b").numbers.values():
            assert ours_text(number) in text
            assert number.status == "complete" or number.status in text
            assert number.verdict is None or number.verdict.text in text
        assert "harness explain" in page.browser.run("document.getElementById('tables').innerText")
    finally:
        page.browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_it_prints(page: Opened) -> None:
    """As a document of some pages: no filter and no box that cuts a table off; signs are explained instead."""
    pdf = page.browser.pdf()
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
    page.browser.call("Emulation.setEmulatedMedia", media="print")
    look = "getComputedStyle(document.querySelector('{}')).{}"
    assert page.browser.run(look.format("#filter", "display")) == "none"
    assert page.browser.run(look.format(".signs", "display")) == "block"
    assert page.browser.run(look.format(".box", "overflow")) == "visible"
    cut = "[...document.querySelectorAll('.box')].filter(b => b.scrollHeight > b.clientHeight + 1).length"
    assert page.browser.run(cut) == 0


def test_it_can_be_seen(page: Opened) -> None:
    """A picture of the page is no empty sheet: dark ink on a light ground, in more than a few places."""
    picture = Image.open(io.BytesIO(page.browser.screenshot())).convert("L")
    dark = sum(picture.histogram()[:128]) / (picture.width * picture.height)
    assert 0.01 < dark < 0.3
