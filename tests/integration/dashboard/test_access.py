"""The dashboard for everybody: axe finds nothing serious, every control is reached and used by keyboard, nothing sticks out of a phone."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, FloatRect, Page

from infra.embedded import Cluster
from infra.embedded.child import free_port
from tests.integration.dashboard.pages import Tab, address_at, server, until
from tests.integration.dashboard.three_topics import PAST

TOPIC = "?topic=shop.orders&by=country"
SIZES = {"desktop": {"width": 1440, "height": 900}, "phone": {"width": 390, "height": 844}}
RING = 16  # pixels around a control in which its focus may be drawn: a search field stands inside its frame
CONTRAST = 3  # what a focus wants against what was there before (WCAG 2.2, 1.4.11)
# What has the focus, inside all shadow roots: its name (its own, or that of the chart it belongs to), and its place.
FOCUSED = """() => { let it = document.activeElement
    while (it?.shadowRoot?.activeElement) it = it.shadowRoot.activeElement
    if (!it || it == document.body) return null
    const named = (node) => node.ariaLabel || node.labels?.[0]?.textContent || node.title || ""
    let name = named(it) || it.textContent.trim()
    for (let node = it; node != document && node.tagName != "SECTION" && !name; node = node.parentNode ?? node.host) name = named(node)
    const {x, y, width, height} = it.getBoundingClientRect()
    return {name, tag: it.tagName, x: x + scrollX, y: y + scrollY, width, height} }"""
BLUR = """() => { let it = document.activeElement
    while (it.shadowRoot?.activeElement) it = it.shadowRoot.activeElement
    it.blur() }"""


@dataclass(frozen=True)
class Stop:
    """Where Tab leads to; the place in pixels of the whole page."""

    name: str
    tag: str
    x: float
    y: float
    width: float
    height: float

    @property
    def surroundings(self) -> FloatRect:
        x, y = max(self.x - RING, 0), max(self.y - RING, 0)
        return {"x": x, "y": y, "width": self.width + 2 * RING, "height": self.height + 2 * RING}


def opened(browser: Browser, address: str, query: str, size: str = "desktop", scheme: str = "light") -> Tab:
    tab = Tab(browser, address, viewport=SIZES[size], color_scheme=scheme).open(query)
    line = "finals DE" if "by=country" in query else "finals total"
    until(30, lambda: len(tab.column(line)) >= PAST)
    tab.page.wait_for_function("Bokeh.documents[0].is_idle")
    return tab


@pytest.mark.parametrize("query", ["", TOPIC])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_serious_and_nothing_sticks_out(browser: Browser, address: str, query: str, scheme: str, size: str) -> None:
    tab = opened(browser, address, query, size, scheme)
    assert serious(tab.page) == []
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]["width"]
    tab.page.close()
    assert tab.errors == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_a_page_that_is_lost(browser: Browser, cluster: Cluster, scheme: str) -> None:
    port = free_port()
    with server(cluster.environ, port) as running:
        tab = opened(browser, address_at(port), TOPIC, "phone", scheme)
        running.kill()
        tab.page.get_by_role("status").filter(has_text="The connection is lost").wait_for()
        assert serious(tab.page) == []
        tab.page.close()


def serious(page: Page) -> list[str]:
    """What axe calls serious or critical, with the place."""
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{it['id']}: {node['target']} {node['html']}" for it in found if it["impact"] in {"serious", "critical"} for node in it["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tab_leads_through_all_that_can_be_used_in_reading_order_and_shows_where_it_is(browser: Browser, address: str, scheme: str) -> None:
    tab = opened(browser, address, TOPIC, scheme=scheme)
    stops = list(walked(tab.page))
    assert [stop for stop in stops if not stop.name] == []
    assert {"shop.orders", "Topic", "Window", "Grouped by"} <= {stop.name for stop in stops}
    backwards = [(one.name, two.name) for one, two in pairwise(stops) if two.y + two.height < one.y and two.x < one.x]
    assert backwards == []  # down or to the right, as one reads
    assert [stop.name for stop in stops if focus_pixels(tab.page, stop) < stop.width + stop.height] == []
    tab.page.close()
    assert tab.errors == []


def walked(page: Page) -> Iterator[Stop]:
    """Every stop of Tab, from the beginning of the page to its end; there they have passed once."""
    for _ in range(100):
        page.keyboard.press("Tab")
        found = page.evaluate(FOCUSED)
        if found is None:
            return
        yield Stop(**found)
    raise AssertionError("Tab does not come to an end")


def focus_pixels(page: Page, stop: Stop) -> int:
    """How many pixels in and around a control differ from what is there without focus, with enough contrast to be seen."""
    for _ in range(100):  # from where the walk ended on to this stop
        page.keyboard.press("Tab")
        if page.evaluate(FOCUSED) == vars(stop):
            break
    focused = luminance(page, stop)
    page.evaluate(BLUR)
    plain = luminance(page, stop)
    contrast = (np.maximum(focused, plain) + 0.05) / (np.minimum(focused, plain) + 0.05)
    return int((contrast >= CONTRAST).sum())


def luminance(page: Page, stop: Stop) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The relative luminance of each pixel in and around a control (WCAG 2.2); a caret is not in the picture."""
    picture = page.screenshot(full_page=True, clip=stop.surroundings, animations="disabled", caret="hide")
    colours = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.float64) / 255
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ [0.2126, 0.7152, 0.0722])


def test_a_topic_is_opened_by_keyboard(browser: Browser, address: str) -> None:
    tab = opened(browser, address, "")
    reach(tab.page, "shop.orders")
    tab.page.keyboard.press("Enter")
    tab.page.wait_for_url("**?topic=shop.orders")
    tab.page.close()
    assert tab.errors == []


def test_lists_groups_tables_and_the_pause_are_set_by_keyboard(browser: Browser, address: str) -> None:
    tab = opened(browser, address, "?topic=shop.orders")
    reach(tab.page, "Grouped by")
    tab.page.keyboard.press("ArrowDown")
    tab.page.wait_for_url("**?topic=shop.orders&by=country")
    until(15, lambda: tab.column("finals FR"))
    reach(tab.page, "Pause")
    tab.page.keyboard.press("Space")
    tab.page.get_by_role("button", name="Resume").wait_for()
    reach(tab.page, "DE")
    tab.page.keyboard.press("Space")
    until(15, lambda: tab.column("finals FR") and not tab.column("finals DE"))
    reach(tab.page, "Show table of revenue")
    tab.page.keyboard.press("Enter")
    tab.page.get_by_role("table").wait_for()
    tab.page.close()
    assert tab.errors == []


def reach(page: Page, name: str) -> None:
    """Tab until the control of that name has the focus."""
    assert any(stop.name == name for stop in _until_named(page, name)), f"Tab does not lead to {name}"


def _until_named(page: Page, name: str) -> Iterator[Stop]:
    for stop in walked(page):
        yield stop
        if stop.name == name:
            return
