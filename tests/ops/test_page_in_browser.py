"""The status page in a real Chromium: of a real daemon over a backup that breaks, and of a hand-made fleet in every state."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sidecar.adapters.http_server import HttpServer
from sidecar.core.settings_model import Listen
from tests.e2e.stage import stage
from tests.faces.commands import run
from tests.faces.site import Site
from tests.faces.test_page import HOSTILE, hostile_site
from tests.litestreams import ROOT, until
from tests.ops.browser import Browser, browser
from tests.ops.gallery import gallery

PICTURES = ROOT / ".ci-work" / "pictures"  # for people
PHONE = {"width": 360, "height": 740}
UPDATE_S = 12.0  # the page asks every 5 s


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as started:
        yield started


@contextmanager
def served(site: Site) -> Iterator[str]:
    server = HttpServer(site.app, Listen("127.0.0.1", 0))
    server.start()
    try:
        yield f"{server.url}/"
    finally:
        server.stop()


def picture(chromium: Browser, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    chromium.ask("screenshot", path=str(PICTURES / f"{name}.png"))


def shows(chromium: Browser, selector: str, says: str, *, within: float = UPDATE_S) -> None:
    until(lambda: says in chromium.says(selector), within=within, every=0.2, say=f"{selector} says {says!r}")


def fresh_main(chromium: Browser, url: str) -> tuple[str, str]:
    """What stands in the page, and what stands in the same page asked for anew; `open` is the person's."""
    script = f"""(async () => {{
      const plain = (node) => {{
        const copy = node.cloneNode(true);
        copy.querySelectorAll("details").forEach((each) => each.removeAttribute("open"));
        return copy.outerHTML;
      }};
      const text = await (await fetch({json.dumps(url)}, {{headers: {{Accept: "text/html"}}}})).text();
      const other = new DOMParser().parseFromString(text, "text/html");
      return [plain(document.querySelector("main")), plain(other.querySelector("main"))];
    }})()"""
    there, anew = chromium.evaluate(script)
    return str(there), str(anew)


def test_a_real_backup_breaks_before_ones_eyes_and_is_mended(chromium: Browser, tmp_path: Path) -> None:
    with stage(tmp_path) as acting:
        acting.app.write(50)
        acting.litestream.start()
        acting.sidecar.start()
        acting.sidecar.until_ready()
        url = f"{acting.sidecar.url}/"
        chromium.open(url)
        assert chromium.says("h1") == "Ready"
        assert chromium.says(".reason") == "1 database can be restored"
        assert "restore" in chromium.says(".past .stages")
        assert str(acting.replica) in chromium.says(".places")
        chromium.evaluate("window.mark = 1; document.querySelector('article summary').focus(); 0")
        chromium.ask("press", key="Enter")
        assert "No artifact is kept" in chromium.says(".back")
        gated = run("gate", "app", *acting.sidecar.options[:-2], "--json").document
        shows(chromium, ".back", f"litestream-sidecar rollback --receipt {gated['receipt']}")
        (artifact,) = acting.sidecar.state_dir.joinpath("rollback").rglob("*.artifact")
        assert str(artifact) in chromium.says(".back")
        assert "gate app" in chromium.says("main > section:last-child")
        picture(chromium, "daemon-healthy")

        acting.litestream.stop()
        acting.app.write(5)
        shows(chromium, "h1", "Not ready", within=UPDATE_S + 8)
        shows(chromium, ".reason", "app: Litestream does not answer")
        shows(chromium, ".checks", "litestream_down")
        assert "start Litestream" in chromium.says(".checks .hint")
        assert chromium.evaluate("document.title").startswith("Not ready: app")
        picture(chromium, "daemon-broken")

        acting.litestream.start()
        shows(chromium, "h1", "Ready", within=UPDATE_S + 20)
        until(lambda: chromium.says("h1") == "Ready", within=UPDATE_S, say="ready again")
        acting.sidecar.stop()
        shows(chromium, "#trouble", "has not answered since")
        assert chromium.evaluate("document.title").startswith("No answer")

        assert chromium.evaluate("window.mark") == 1, "it was never loaded anew"
        assert chromium.evaluate("document.querySelector('article details').open"), "what was opened stays open"
        assert chromium.evaluate("document.activeElement.tagName") == "SUMMARY", "the focus stays where it was"
        seen = chromium.ask("seen")
        assert {each for each in seen["requests"] if not each.startswith("data:")} == {url}
        assert [each for each in seen["complaints"] if "ERR_CONNECTION_REFUSED" not in each] == []


@pytest.fixture(scope="module")
def sites() -> Iterator[dict[str, str]]:
    """Where a fleet that is well, one that is not, and one with hostile names are shown."""
    with (
        served(gallery(broken=False)) as healthy,
        served(gallery(broken=True)) as broken,
        served(hostile_site()) as hostile,
    ):
        yield {"healthy": healthy, "broken": broken, "hostile": hostile}


@pytest.mark.parametrize("width", [360, 900])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium: Browser, sites: dict[str, str], scheme: str, width: int) -> None:
    for name in ("healthy", "broken", *(("hostile",) if (scheme, width) == ("dark", 360) else ())):
        url = sites[name]
        chromium.open(url, scheme=scheme, width=width, height=800)
        if name != "hostile":
            picture(chromium, f"{name}-{scheme}-{width}")
        chromium.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert chromium.violations() == [], name
        assert chromium.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), f"{name}: nothing sticks out"


def test_hostile_input_does_nothing_in_a_browser(chromium: Browser) -> None:
    site = hostile_site()
    with served(site) as url:
        chromium.open(url)
        chromium.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert "<script>alert(1)</script>" in chromium.says("main")
        heading = f"[...document.querySelectorAll('h2 a')].find((each) => each.innerText === {json.dumps(HOSTILE[0])})"
        assert chromium.ask("seen")["complaints"] == []
        chromium.open(chromium.evaluate(f"{heading}.href"))
        assert HOSTILE[0] in chromium.says("h2")
        assert chromium.ask("seen")["complaints"] == []


def test_without_javascript_it_says_the_same_and_reloads(chromium: Browser) -> None:
    site = gallery(broken=True)
    with served(site) as url:
        chromium.open(url, javascript=False, **PHONE)
        assert "Not ready" in chromium.says("h1")
        assert chromium.evaluate("document.querySelector('#pause').checkVisibility()") is False
        picture(chromium, "without-javascript")
        asked = len(site.counted)
        until(lambda: len(site.counted) > asked, within=20, say="it is loaded anew by itself")
        assert "Not ready" in chromium.says("h1")


def test_what_is_put_in_place_is_what_a_fresh_page_would_show(chromium: Browser) -> None:
    healthy, broken = gallery(broken=False), gallery(broken=True)
    site = gallery(broken=False)
    with served(site) as url:
        chromium.open(url)
        for other, says in ((broken, "Not ready"), (healthy, "Ready"), (Site(), "Not ready"), (broken, "Not ready")):
            reason = other.house.answers.verdict().reason
            become(site, other)
            chromium.evaluate("document.dispatchEvent(new Event('visibilitychange')); 0")  # asks at once
            shows(chromium, ".reason", reason)
            assert chromium.says("h1") == says
            until(lambda: len(set(fresh_main(chromium, url))) == 1, within=UPDATE_S, say="both are the same")


def become(site: Site, other: Site) -> None:
    """The same site, with another's fleet and evidence."""
    site.house.ledger.evidence, site.house.ledger.drills = other.house.ledger.evidence, other.house.ledger.drills
    site.past.decisions, site.past.artifacts = other.past.decisions, other.past.artifacts
    site.house.set(other.house.fleet)
    site.house.clock.seconds += 60


def test_pause_stops_the_asking_and_goes_on(chromium: Browser) -> None:
    site = gallery(broken=False)
    with served(site) as url:
        chromium.open(url)
        chromium.ask("click", selector="#pause")
        assert chromium.says("#pause") == "go on"
        site.house.ledger.evidence.clear()
        chromium.ask("click", selector="#pause")
        shows(chromium, "h1", "Not ready")
        assert chromium.says("#pause") == "pause"


TABBED = """(() => {
  const all = [...document.querySelectorAll("a, summary, button")].filter((each) => each.checkVisibility());
  const now = document.activeElement, style = getComputedStyle(now), place = now.getBoundingClientRect();
  return {
    all: all.length, at: all.indexOf(now), ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    seen: place.width > 0 && place.top >= 0 && place.bottom <= innerHeight + 1,
  };
})()"""


@pytest.mark.parametrize(
    "make", [lambda: gallery(broken=True), lambda: gallery(broken=False)], ids=["broken", "healthy"]
)
def test_tab_reaches_everything_that_can_be_used_and_shows_where_it_is(
    chromium: Browser, make: Callable[[], Site]
) -> None:
    with served(make()) as url:
        chromium.open(url, **PHONE)
        total = int(chromium.evaluate(TABBED)["all"])
        assert total > 10
        for number in range(total):
            chromium.ask("press", key="Tab")
            now: dict[str, Any] = chromium.evaluate(TABBED)
            assert now == {"all": total, "at": number, "ring": True, "seen": True}
        chromium.evaluate("document.querySelector('summary').focus()")
        chromium.ask("press", key="Space")
        assert chromium.evaluate("document.querySelector('details').open")
