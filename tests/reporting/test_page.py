"""The page says what the tables say, escapes what it did not write, and asks the network for nothing."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_report import Held, sample_report, table_of

from harness.config.metrics import METRICS
from harness.reporting.aggregate import Table
from harness.reporting.claims import Above, Claim, Judgement
from harness.reporting.long_form import render_csv
from harness.reporting.page import Drawing, Report, render_page, write_page
from harness.reporting.provenance import server_address
from harness.reporting.render import paper_text

VOID = ("meta", "input", "img", "br")
HOSTILE = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"> & 'b'"


@dataclass
class Element:
    """What was read of one element; `text` is all text within."""

    tag: str
    attributes: dict[str, str | None]
    parent: Element | None
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, tag: str) -> Iterator[Element]:
        for child in self.children:
            if child.tag == tag:
                yield child
            yield from child.all(tag)

    def one(self, tag: str, **attributes: str) -> Element:
        found = [e for e in self.all(tag) if attributes.items() <= e.attributes.items()]
        assert len(found) == 1, f"{len(found)} of {tag} {attributes}"
        return found[0]


class Reader(HTMLParser):
    """Reads a page into elements; one that is not closed, or closed twice, is a mistake."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.root = self.open = Element("", {}, None)
        self.feed(page)
        self.close()
        assert self.open is self.root, f"{self.open.tag} is not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), self.open)
        self.open.children.append(element)
        if tag not in VOID:
            self.open = element

    def handle_endtag(self, tag: str) -> None:
        assert self.open.tag == tag, f"{tag} closes {self.open.tag}"
        assert self.open.parent is not None
        self.open = self.open.parent

    def handle_data(self, data: str) -> None:
        at: Element | None = self.open
        while at is not None:
            at.text += data
            at = at.parent


def read(report: Report) -> Element:
    return Reader(render_page(report)).root


@pytest.fixture(scope="module")
def report() -> Report:
    """Every table at the paper's scale."""
    return sample_report()


@pytest.fixture(scope="module")
def page(report: Report) -> Element:
    return read(report)


@pytest.fixture(scope="module")
def small() -> Report:
    return sample_report(tables=("5b", "10"))


def judgement(text: str, reason: str = "2 of 3 seeds") -> Judgement:
    claim = Claim(id="one", text=text, source="Section 5", above=Above(cells=("5b:byol",), than="5b:simclr"))
    return Judgement(claim, "holds", {0: True, 1: False}, reason)


def test_every_number_of_every_table_stands_on_the_page(report: Report, page: Element) -> None:
    """The csv is the outside truth: each of its rows is one place on the page, with its state and its number."""
    for table in report.tables:
        places = {
            (td.attributes["data-cell"], td.attributes["data-metric"]): td
            for td in page.one("article", id=f"table{table.layout.table}").all("td")
            if "data-status" in td.attributes
        }
        rows = list(csv.DictReader(render_csv(table).splitlines()))
        assert len(places) == len(rows)
        for row in rows:
            td = places[f"{row['table']}:{row['cell']}", row["metric"]]
            assert td.attributes["data-status"] == row["status"]
            if row["ours"]:
                assert td.text.strip().startswith(METRICS[row["metric"]].text(float(row["ours"])))
            assert any(td.all("button")) == bool(row["run_keys"])


def test_paper_numbers_stand_beside(report: Report, page: Element) -> None:
    """Each of the paper's numbers is in the row of its cell."""
    for table in report.tables:
        for row in page.one("article", id=f"table{table.layout.table}").one("tbody").all("tr"):
            places = list(row.all("td"))
            for at, td in enumerate(places):
                if "data-status" in td.attributes:
                    cell = td.attributes["data-cell"].partition(":")[2]  # type: ignore[union-attr]
                    number = table.numbers[cell, td.attributes["data-metric"]]  # type: ignore[index]
                    beside = td if td.attributes["class"].split()[0] == "paper" else places[at + 1]  # type: ignore[union-attr]
                    assert beside.text == paper_text(number)


def test_tables_are_whole(page: Element) -> None:
    """Each has a caption and headings with a scope, and every row is as wide as the head."""
    tables = list(page.all("table"))
    assert len(tables) > 30
    for table in tables:
        assert table.one("caption").text.strip()
        assert all(th.attributes.get("scope") for th in table.all("th"))
        levels = [list(tr.all("th")) for tr in table.one("thead").all("tr")]
        wide = sum(int(th.attributes.get("colspan") or 1) for th in levels[0])
        from_above = sum(int(th.attributes.get("rowspan") or 1) > 1 for th in levels[0])
        for level in levels[1:]:
            assert sum(int(th.attributes.get("colspan") or 1) for th in level) == wide - from_above
        for tr in table.one("tbody").all("tr"):
            assert len(tr.children) == wide
            assert tr.children[0].attributes["scope"] == "row"


def test_ids_are_unique_and_links_lead_somewhere(page: Element) -> None:
    """A link within the page has its target; a file beside it has the name that `write_table` gives."""
    ids = [
        e.attributes["id"]
        for tag in ("section", "article", "h2", "form", "dialog")
        for e in page.all(tag)
        if "id" in e.attributes
    ]
    assert len(ids) == len(set(ids))
    links = [a.attributes["href"] or "" for a in page.all("a")]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    assert all(link.startswith(("#", "table")) for link in links)


def test_nothing_is_fetched(report: Report) -> None:
    """No address of a resource anywhere: style, script and pictures are in the page, and its policy allows no other."""
    html = render_page(report)
    root = Reader(html).root
    for tag in ("link", "iframe", "object", "embed", "base", "audio", "video", "source"):
        assert not list(root.all(tag))
    assert not [
        e
        for tag in ("script", "img", "input", "form")
        for e in root.all(tag)
        if "src" in e.attributes or "action" in e.attributes
    ]
    style = root.one("style").text
    assert "url(" not in style
    assert "@import" not in style
    policy = next(m.attributes["content"] for m in root.all("meta") if m.attributes.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_hostile_texts_stay_texts(small: Report) -> None:
    """What comes from YAML files, errors, notes and claims cannot become part of the page's code."""
    table = table_of(small, "5b")
    rows = ({**table.layout.rows[0], "label": HOSTILE}, *table.layout.rows[1:])
    layout = replace(table.layout, rows=rows, caption=HOSTILE, source=HOSTILE, doubts=(HOSTILE,))
    results = small.results
    assert isinstance(results, Held)
    key = table.numbers["byol", "linear_imagenet.top1"].run_keys[1]
    held = Held(f"http://{HOSTILE}", dict(results.stored), dict(results.records))
    held.hold(replace(results.records[key], error=HOSTILE, commit=HOSTILE, notes=(HOSTILE,)))
    claims = (judgement(HOSTILE, HOSTILE),)
    tables = (replace(table, layout=layout), table_of(small, "10"))
    root = read(replace(small, tables=tables, results=held, judgements=claims, profile=HOSTILE))
    assert len(list(root.all("script"))) == 2
    assert not list(root.all("img"))
    assert root.one("article", id="table5b").one("caption").text == f"Table 5b. {HOSTILE}"
    data = json.loads(root.one("script", id="data").text)
    assert data["runs"][key]["error"] == HOSTILE
    assert "link" not in data["runs"][key]


def test_provenance_of_every_number(report: Report, page: Element) -> None:
    """Each number with runs has its seeds, their keys in the table's order, and a value for each that counts."""
    data = json.loads(page.one("script", id="data").text)
    for table in report.tables:
        for (cell, metric), number in table.numbers.items():
            if not number.run_keys:
                continue
            seeds = data["cells"][f"{table.layout.table}:{cell}"]
            assert tuple(seed["evaluation"] for seed in seeds) == number.run_keys
            values = data["values"].get(f"{table.layout.table}:{cell}:{metric}", {})
            assert {int(seed): float(value) for seed, value in values.items()} == pytest.approx(
                dict(number.values), 1e-5
            )
            assert all(seed[role] in data["runs"] for seed in seeds for role in ("subject", "evaluation"))


def test_facts_of_a_run(small: Report) -> None:
    """Commit, hardware, hours, server page and spec; the address without the password that the uri holds."""
    html = render_page(small)
    data = json.loads(Reader(html).root.one("script", id="data").text)
    seed = data["cells"]["5b:byol"][1]
    run = data["runs"][seed["evaluation"]]
    assert run["commit"] == "0123456789abcdef0123456789abcdef01234567"
    assert run["hardware"] == "8 x NVIDIA A100-SXM4-80GB"
    assert run["cost"] == "24 GPU-hours"
    assert run["link"] == f"https://mlflow.example.org/lab/#/experiments/7/runs/run-{seed['evaluation']}"
    assert data["specs"][data["runs"][seed["subject"]]["spec"]]["objective"]["target"] == "ema"
    assert "secret" not in html


def test_seeds_share_a_spec(small: Report) -> None:
    """Three seeds of a cell are one spec on the page: only the seed differs, and that is said beside it."""
    data = json.loads(read(small).one("script", id="data").text)
    for seeds in data["cells"].values():
        assert len({data["runs"][seed["subject"]]["spec"] for seed in seeds}) == 1
    assert len(data["specs"]) == 8 + 1  # Table 5b's encoders, and the one protocol


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("https://me:secret@[::1]:8080/x y/", "https://[::1]:8080/x%20y/"),
        ("sqlite:////home/mlflow.db", ""),
        ("javascript:alert(1)", ""),
        ("http://host:port", ""),
        ("http://<script>/", ""),
        ("databricks", ""),
    ],
)
def test_address_of_a_server(uri: str, address: str) -> None:
    """Only what a browser can open is an address, and nobody's password is printed."""
    assert server_address(uri) == address


def test_progress_counts_runs_once(small: Report) -> None:
    """Every run of Table 5b as its records have it: twice the cells and seeds, as nothing is shared within it."""
    text = " ".join(read(small).one("section", id="overview").text.split())
    states = [record.state for record in small.results.records.values()]  # type: ignore[attr-defined]
    done = states.count("done") + states.count("diverged")
    assert states.count("running") == len(small.under_way) > 0
    assert f"{done} of 48, {states.count('running')} running, {states.count('failed')} failed" in text
    assert "25 % pretrain 5b:pred_online_beta1 seed 0" in text or "25 % pretrain 5b:simclr seed 0" in text


def test_readable_without_javascript(small: Report) -> None:
    """States and verdicts are words in the page, and what works only with a script is hidden until it runs."""
    root = read(small)
    assert "hidden" in root.one("form", id="filter").attributes
    assert "harness explain table5b:byol --profile imagenet" in root.one("noscript").text
    for td in root.all("td"):
        status = td.attributes.get("data-status")
        if status in ("partial", "failed", "diverged", "pending"):
            assert status in td.text
        if td.attributes.get("data-verdict"):
            assert str(td.attributes["data-verdict"]) in td.text


def test_claims_and_figures(small: Report, tmp_path: Path) -> None:
    """A claim has its state, its seeds and the tables it is about; a figure is in the page whole."""
    svg = tmp_path / "figure3a.svg"
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    drawings = (Drawing(figure="3a", caption="Batch size", path=svg),)
    root = read(replace(small, figures=drawings, judgements=(judgement("A predictor matters."),)))
    claim = root.one("section", id="claims").one("li", **{"data-state": "holds"})
    assert "A predictor matters." in claim.text
    assert "2 of 3 seeds (seed 0 ✓, seed 1 ✕)." in claim.text
    assert claim.one("a", href="#table5b").text == "Table 5b"
    picture = root.one("figure", id="figure3a").one("img")
    assert (picture.attributes["src"] or "").startswith("data:image/svg+xml;base64,")
    assert "Batch size" in (picture.attributes["alt"] or "")


def test_stand_in_data_is_said_first(small: Report) -> None:
    """At the laptop profile a reader is told in the page's head that the paper's numbers are not to be expected."""
    laptop = sample_report("laptop", tables=("5b",))
    assert "stand-in data" in read(laptop).one("header").text
    assert "stand-in data" not in read(small).one("header").text
    assert not [td for td in read(laptop).all("td") if "data-verdict" in td.attributes]


def test_same_bytes_for_same_results(small: Report, tmp_path: Path) -> None:
    """Written twice, in different folders: no clock, no path. Nothing else is left in the folder."""
    first, second = (write_page(small, tmp_path / name) for name in ("one", "two"))
    assert first.read_bytes() == second.read_bytes()
    assert list(first.parent.iterdir()) == [first]
    assert str(tmp_path) not in first.read_text()


def test_small_and_quick(report: Report) -> None:
    """All tables at three seeds: under 5 MB with room for the figures, and no wait worth speaking of."""
    began = time.process_time()
    size = len(render_page(report).encode())
    assert time.process_time() - began < 2.0
    assert size < 3_000_000


def test_a_table_without_runs(small: Report) -> None:
    """What is counted, not run, has no button, as there is nothing to open."""
    table: Table = table_of(small, "10")
    article = read(small).one("article", id="table10")
    assert {n.status for n in table.numbers.values()} == {"pending"}
    assert not list(article.all("button"))
