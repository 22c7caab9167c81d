"""The page in a browser: no network, both colour schemes, a phone's width."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from _browser import Tab, browser, browser_path
from _reports import (
    DETAILS,
    IMAGE_COUNTS,
    IMAGE_SCHEMA,
    TABLE_COUNTS,
    TABLE_SCHEMA,
    audited,
    images,
    named,
    pair,
    report,
    worth,
    write_table,
    write_version,
)  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium is installed"),
]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    tables, pictures = tmp_path_factory.mktemp("tables"), tmp_path_factory.mktemp("pictures")
    write_table(tables)
    report(tables, TABLE_SCHEMA, TABLE_COUNTS, worth=worth("harms"), audit_metrics_path=audited(tables, **DETAILS))
    write_version(pictures, named(images(6, 0), "real"), named(images(4, 1), "syn"), images(3, 2))
    details = {**DETAILS, "copying": {"nearest_pairs": [pair(7, "syn-5", 0.5, "cat")] * 24}}
    audit = audited(pictures, **details)
    report(pictures, IMAGE_SCHEMA, IMAGE_COUNTS, worth=worth(), audit_metrics_path=audit)
    return {"tables": tables / "report" / "index.html", "pictures": pictures / "report" / "index.html"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("kind", ["tables", "pictures"])
def test_the_page_opens_offline_without_complaint_and_fits_the_width(
    tab: Tab, pages: dict[str, Path], kind: str, width: int, scheme: str
) -> None:
    tab.open(pages[kind], width, scheme)
    assert tab.value("document.querySelectorAll('main > section').length") >= 12
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.complaints() == []
    assert {address.split(":")[0] for address in tab.requested()} <= {"file", "data"}
    light = tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
    assert light == (scheme == "light")


def test_every_link_leads_somewhere_and_every_image_loads(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["pictures"], 1280, "light")
    assert tab.value("[...document.querySelectorAll('a')].every(a => document.querySelector(a.getAttribute('href')))")
    assert tab.value("document.images.length") > 24
    assert tab.value("[...document.images].every(i => i.complete && i.naturalWidth > 0)")


def test_tables_that_fold_on_a_phone_stay_tables_for_screen_readers(tab: Tab, pages: dict[str, Path]) -> None:
    tab.open(pages["tables"], 360, "light")
    tab.do("Accessibility.enable")
    nodes = tab.do("Accessibility.getFullAXTree")["nodes"]
    roles = [node["role"]["value"] for node in nodes if not node["ignored"]]
    assert "row" in roles
    names = [node["name"]["value"] for node in nodes if node["role"]["value"] == "rowheader" and not node["ignored"]]
    assert {"oversampling", "synthetic alone"} <= set(names)
