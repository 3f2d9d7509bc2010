"""The status page, asked in-process: what it says in every state, that nothing in it acts, and how large it gets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from dataclasses import dataclass, field, replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from sidecar import page_facts
from sidecar.core.errors import EnvironmentProblem
from sidecar.core.finding import Reason
from sidecar.core.model import Outcome, SchemaVersion
from sidecar.core.parity import Parity, ParityResult, inconclusive
from sidecar.core.receipt import Kept
from sidecar.page import STATIC
from tests.faces.site import Site
from tests.fakes import content, drill, healthy

BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}
VOID = {"meta", "link"}
INLINE = {"a", "b", "bdi", "code", "span", "time"}
RECEIPT = "20261123T021000Z-5be1c3d0"
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></script><svg onload=alert(1)>",
    "&lt;b&gt; &amp; {{7*7}} ${7*7} `x`",
    "app\u202egpj.exe",
    "line\nbreak\x00\x1b[31mred",
    "odd\udcff",
    "A" * 4000,
)


@dataclass
class Seen(HTMLParser):
    """The elements of a page and the text that stands outside style and script. Fails on a page that is not well nested."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    around: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        self.words.append("" if tag in INLINE else " ")
        if tag not in VOID:
            self.around.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.around.pop() == tag
        self.words.append("" if tag in INLINE else " ")

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.around):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def seen(site: Site, target: str = "/", code: int = 200) -> Seen:
    response = site.get(target, headers=BROWSER)
    assert response.status_code == code
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    found = Seen()
    found.feed(response.content.decode())
    found.close()
    assert found.around == []
    return found


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        (BROWSER["accept"], True), ("text/html", True), ("TEXT/HTML;level=1;q=0.3", True), ("application/xhtml+xml", True),
        ("text/html, text/plain;q=0.5", True), ("*/*", False), ("", False), ("text/plain", False), ("text/*", False),
        ("application/json", False), ("text/html;q=0", False), ("text/html;q=0.5, text/plain", False), ("text/html;q=much", False),
    ],
)  # fmt: skip
def test_browsers_get_the_page_and_everybody_else_the_routes(site: Site, accept: str, html: bool) -> None:  # noqa: FBT001
    response = site.get("/", headers={"accept": accept})
    assert response.headers["content-type"] == f"text/{'html' if html else 'plain'}; charset=utf-8"
    assert response.headers["vary"] == "Accept"
    assert ("GET  /ready " in response.text) is not html


def test_ready_is_said_first_and_largest(site: Site) -> None:
    found = seen(site)
    assert found.text.startswith(
        "Ready: 1 database can be restored litestream-sidecar pause Ready 1 database can be restored"
    )
    assert "11 checks pass" in found.text
    assert "1 s, 4.2 MB" in found.text
    assert "Waiting alone" not in found.text


def test_not_ready_says_why_and_what_to_do_and_whether_waiting_helps(site: Site) -> None:
    known = site.house.ledger.evidence["/data/app.db"]
    assert known.claim is not None
    claim = replace(known.claim, managed=False)
    site.house.ledger.evidence["/data/app.db"] = replace(known, claim=claim)
    text = seen(site).text
    assert text.startswith("Not ready: app: Litestream runs but does not know this database")
    assert "fail litestream not_managed Litestream runs but does not know this database" in text
    assert "try restart Litestream with this litestream.yml; compare its dbs: with the database's path" in text
    assert "Waiting alone does not change this." in text
    assert text.index("fail litestream") < text.index("10 checks pass")


def test_the_page_turns_red_by_itself_when_the_daemon_stops_looking(site: Site) -> None:
    site.house.clock.go(timedelta(minutes=10))
    site.alive = False
    text = seen(site).text
    assert text.startswith("Not ready: app: replica lacks commits of the last 600 s")
    assert "The daemon's loop does not turn" in text


def test_no_database_and_no_evidence() -> None:
    site = Site()
    assert seen(site).text.startswith("Not ready: litestream.yml names no database that exists")
    site.house.add("new")
    text = seen(site).text
    assert "Last proof never" in text
    assert "Lag nothing is known yet" in text
    assert "Drills none yet" in text
    assert "None has been recorded yet." in text


def test_a_changed_configuration_that_is_not_in_force_is_said(site: Site) -> None:
    site.house.keeper.error = EnvironmentProblem("sidecar.yml: polcy is unknown", "policy?")
    assert "The changed configuration is not in force: sidecar.yml: polcy is unknown" in seen(site).text


def test_drills_are_shown_with_their_stages_and_what_they_found(site: Site) -> None:
    bad = replace(
        drill("d2"), outcome=Outcome.FAILED, reason=Reason.FILE_CORRUPT.value, message="checksum mismatch in `0001.ltx`",
        hint="give the replica a new path", check_seconds=None, parity=None, parity_seconds=None,
    )  # fmt: skip
    site.house.ledger.drills.insert(0, ("/data/app.db", "app", bad))
    text = seen(site).text
    assert "failed app just now plan 50 ms · restore 1 s · 4.2 MB · quick_check" in text
    assert "file_corrupt checksum mismatch in 0001.ltx try give the replica a new path" in text
    assert (
        "passed app just now plan 50 ms · restore 1 s · check 0.4 s · parity 0.3 s · 4.2 MB · quick_check · all 1024 pages proven"
        in text
    )
    assert "1 did not pass" in text


def test_a_drill_says_how_much_of_production_it_proved(site: Site) -> None:
    drills, evidence = site.house.ledger.drills, site.house.ledger.evidence["/data/app.db"]

    def shows(parity: Parity, **more: Any) -> str:
        made = replace(drill("d2"), parity=parity, **more)
        drills[:] = [("/data/app.db", "app", made)]
        compared = made if parity.result is not ParityResult.INCONCLUSIVE else evidence.last_compared
        site.house.ledger.evidence["/data/app.db"] = replace(evidence, last_compared=compared)
        return seen(site).text

    text = shows(Parity(ParityResult.EQUAL, 20000, 19999, 1, message="…; 1 changed meanwhile"))
    assert "Compared 99.99% of 20000 pages proven, just now" in text, "100 only where it is all"
    assert "quick_check · 99.99% of 20000 pages proven" in text

    text = shows(inconclusive("production is not in reach", "drill where production's file is"))
    assert (
        "quick_check · not compared not_compared production is not in reach try drill where production's file is"
        in text
    )
    assert "Compared all 1024 pages proven, just now" in text, "the last comparison that found out"

    different = Parity(ParityResult.DIFFERENT, 1024, 1022, different=(3, 9), differing=2, kept="/state/pages/d2")
    text = shows(different, outcome=Outcome.FAILED, reason=Reason.PAGES_DIFFER.value, message="2 of 1024 pages are not")
    assert "Compared 2 of 1024 pages differ, just now" in text
    assert "pages_differ 2 of 1024 pages are not both versions of the first of them: /state/pages/d2" in text

    site.house.ledger.evidence["/data/app.db"] = replace(evidence, last_compared=None)
    assert "Compared never" in seen(site).text


def test_a_drill_under_way_is_said(site: Site) -> None:
    site.house.desk.request("/data/app.db")
    assert "app ready a drill is queued" in seen(site).text


def test_the_plots_say_in_words_what_they_draw(site: Site) -> None:
    site.trace.turned()
    labels = [each["aria-label"] for each in seen(site).named("svg")]
    assert labels == [
        "Lag since 03:00 UTC: 0 s now, 0 s at the worst, 2 min allowed (dashed)",
        "Drills one: restore 1 s, check 0.4 s and parity 0.3 s at the newest that passed, 2 s in all at the slowest",
    ]
    site.house.ledger.drills[:] = [("/data/app.db", "app", replace(drill(), parity=None, parity_seconds=None))]
    found = seen(site)
    assert found.named("svg")[1]["aria-label"] == (
        "Drills one: restore 1 s and check 0.4 s at the newest that passed, 2 s in all at the slowest"
    )
    assert [each["class"] for each in found.named("span") if "key" in (each.get("class") or "")] == [
        "key restore",
        "key check",
    ]


def test_the_way_back_is_the_newest_artifact_of_that_database(site: Site) -> None:
    assert "No artifact is kept." in seen(site).text
    older = Kept(name="app", receipt_id="20261122T000000Z-aaaaaaaa", artifact="/r/old", size_bytes=1, proved=True)
    newer = Kept(
        name="app",
        receipt_id=RECEIPT,
        artifact="/r/new",
        size_bytes=4_194_304,
        proved=False,
        receipt="/s/receipts/x.json",
    )
    other = replace(newer, name="other", artifact="/r/other")
    site.past.artifacts = [older, newer, other]
    text = seen(site).text
    assert "Kept by the gate 50 min ago, 4.2 MB; its deploy is not proved good. /r/new" in text
    assert "litestream-sidecar rollback --receipt /s/receipts/x.json" in text
    assert "/r/old" not in text
    assert "/r/other" not in text


def test_deploys_are_shown_and_what_cannot_be_read_is_said(site: Site) -> None:
    site.past.decisions = [
        {"kind": "gate", "decision": "overridden", "at": "2026-11-23T02:50:00Z", "databases": ["app"], "reason": "app: lagging",
         "receipt": RECEIPT, "override": "Ann: the store is down"},
        {"kind": "new", "decision": "odd", "at": "?", "databases": [], "reason": "", "receipt": None, "override": None},
    ]  # fmt: skip
    text = seen(site).text
    assert f"overridden gate app 10 min ago app: lagging overridden: Ann: the store is down receipt {RECEIPT}" in text
    assert "odd new" in text


def test_a_book_that_cannot_be_read_leaves_the_rest(site: Site) -> None:
    site.past.error = EnvironmentProblem("deploys.db cannot be used: database disk image is malformed")
    text = seen(site).text
    assert text.startswith("Ready")
    assert "Past deploys cannot be read: deploys.db cannot be used" in text


def test_one_database_has_its_own_page(site: Site) -> None:
    site.house.add("b/50% ä", path="/data/b/50% ä.db")
    (link,) = {each["href"] for each in seen(site).named("a") if "50" in (each["href"] or "")}
    assert link == "/?db=b%2F50%25%20%C3%A4"
    assert link is not None
    found = seen(site, link)
    assert "b/50% ä" in found.text
    assert "/data/app.db" not in found.text
    assert "/databases/b%2F50%25%20%C3%A4" in {each["href"] for each in found.named("a")}
    assert site.get("/databases/b%2F50%25%20%C3%A4").status_code == 200


def test_a_database_that_is_not_there_is_404_with_a_way_back(site: Site) -> None:
    found = seen(site, "/?db=%3Cscript%3E", 404)
    assert 'no database is called "<script>"' in found.text
    assert "/" in {each["href"] for each in found.named("a")}
    assert len(found.named("script")) == 1


@pytest.mark.parametrize("query", ["x=1", "db=app&db=app", "db=app&max_age=1h", "&".join(["db=app"] * 1001)])
def test_what_cannot_be_read_is_refused(site: Site, query: str) -> None:
    assert site.get(f"/?{query}", headers=BROWSER).status_code == 400
    assert site.get(f"/?{query}").status_code == 200, "the list of routes takes no parameters"


def test_head_is_the_page_without_its_body(site: Site) -> None:
    got, headed = site.get("/", headers=BROWSER), site.ask("HEAD", "/", headers=BROWSER)
    assert (headed.status_code, headed.headers, headed.content) == (200, got.headers, b"")
    assert int(headed.headers["content-length"]) == len(got.content)


def test_headers_allow_its_own_style_and_script_and_nothing_else(site: Site) -> None:
    response = site.get("/", headers=BROWSER)
    policy = dict(part.strip().partition(" ")[::2] for part in response.headers["content-security-policy"].split(";"))
    blocks = {name: re.findall(rf"<{name}>(.*?)</{name}>", response.text, re.DOTALL) for name in ("script", "style")}
    for name, found in blocks.items():
        (one,) = found
        assert (
            policy.pop(f"{name}-src") == f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'"
        )
    assert policy == {
        "default-src": "'none'", "connect-src": "'self'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
        "frame-ancestors": "'none'",
    }  # fmt: skip
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert response.headers["cache-control"] == "no-store"


def hostile_site() -> Site:
    """Everything that others can name or say is hostile."""
    site = Site()
    for number, bad in enumerate(HOSTILE):
        known = healthy()
        assert known.claim is not None
        failed = replace(
            drill(f"x-{number}-{bad}"),
            outcome=Outcome.FAILED,
            reason=Reason.RESTORE_FAILED.value,
            message=bad,
            hint=f"`{bad}` {bad}",
            content=None,
        )
        known = replace(
            known, claim=replace(known.claim, up=False, error=bad), last_drill=failed, last_conclusive=failed,
            content=replace(content(), schema_version=SchemaVersion(bad, bad)),
        )  # fmt: skip
        site.house.add(bad, known, path=f"/data/{bad}.db")
        site.past.artifacts.append(
            Kept(name=bad, receipt_id=bad, artifact=bad, size_bytes=1, proved=False, receipt=bad)
        )
        site.past.decisions.append(
            {
                "kind": bad,
                "decision": bad,
                "at": bad,
                "databases": [bad],
                "reason": bad,
                "receipt": bad,
                "override": bad,
            }
        )
    site.house.keeper.error = EnvironmentProblem(HOSTILE[0])
    return site


@pytest.mark.parametrize("one", [None, *HOSTILE], ids=["all", *(str(number) for number in range(len(HOSTILE)))])
def test_hostile_names_and_messages_are_text_and_nothing_else(one: str | None) -> None:
    site = hostile_site()
    fleet = seen(site)
    links = {each["href"] for each in fleet.named("a")}
    target = "/"
    if one is not None:
        target = next(each for each in links if each and each.startswith("/?db=") and each[5:] == quoted(one))
    found = seen(site, target)
    assert_inert(found)
    assert [each for each in found.elements if each[0] in {"script", "style"}] == [("style", {}), ("script", {})]
    assert "\u202e" not in found.text
    assert "\\u202e" in fleet.text, "what cannot be seen is written out"
    assert "<script>alert(1)</script>" in fleet.text, "and what can be seen is shown"
    assert max(len(word) for word in found.words) <= 4 * 2000


def quoted(name: str) -> str:
    return quote(name, safe="", errors="surrogateescape")


ELEMENTS = {
    "html", "head", "meta", "title", "link", "noscript", "style", "body", "header", "a", "span", "button", "p", "main", "section",
    "div", "h1", "h2", "h3", "time", "article", "details", "summary", "ul", "ol", "li", "b", "code", "bdi", "dl", "dt", "dd",
    "figure", "figcaption", "svg", "path", "g", "rect", "footer", "script",
}  # fmt: skip


def assert_inert(found: Seen) -> None:
    """Only our own elements; no handler, no inline style, no address but our own."""
    for tag, attributes in found.elements:
        assert tag in ELEMENTS | {"title"}, tag
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            assert name not in {"style", "src", "srcdoc", "action", "formaction", "target"}, (tag, name)
            if name == "href":
                assert value is not None
                assert value.startswith("data:image/svg+xml,") if tag == "link" else re.match(r"/(?!/)", value), value
    assert len(found.named("html")) == len(found.named("body")) == len(found.named("main")) == 1


def test_nothing_is_asked_of_any_other_server(site: Site) -> None:
    body = site.get("/", headers=BROWSER).text
    assert set(re.findall(r"https?:[^\s\"'<>]*", body)) == set()
    assert not re.search(r"@import|url\(|import\s*\(|eval\(|innerHTML", body)


def many(count: int, *, ready: bool) -> Site:
    site = Site()
    first = site.house.add("first")
    known, old = healthy(), replace(healthy(), last_passed=None, last_drill=None, last_conclusive=None)
    names = [f"tenant-{number:04d}-with-a-name-of-some-length" for number in range(count)]
    databases = [replace(first, name=name, path=f"/data/{name}.db") for name in names]
    policy = site.house.fleet.policies[first.path]
    site.house.ledger.evidence = {each.path: known if ready else old for each in databases}
    site.house.set(
        replace(
            site.house.fleet,
            databases={each.path: each for each in databases},
            policies={each.path: policy for each in databases},
        )
    )
    return site


@pytest.mark.parametrize("ready", [True, False])
def test_a_thousand_databases_make_no_large_page(ready: bool) -> None:  # noqa: FBT001
    site = many(1000, ready=ready)
    found = seen(site)
    size = len(site.get("/", headers=BROWSER).content)
    assert size < 700_000, size
    linked = {each["href"] for each in found.named("a")} & {
        f"/?db={each.name}" for each in site.house.fleet.databases.values()
    }
    assert len(linked) == 1000, "each can be reached"
    assert len(found.named("article")) == (0 if ready else page_facts.FULL_MAX)


def test_what_is_not_ready_is_shown_in_full_before_the_rest() -> None:
    site = many(50, ready=True)
    path = "/data/tenant-0033-with-a-name-of-some-length.db"
    site.house.ledger.evidence[path] = replace(
        site.house.ledger.evidence[path], last_drill=None, last_passed=None, last_conclusive=None
    )
    found = seen(site)
    assert len(found.named("article")) == 1
    assert "1 of 50 databases is not ready." in found.text
    assert found.text.index("tenant-0033") < found.text.index("49 other databases") < found.text.index("tenant-0001")


def test_more_than_are_listed_are_counted() -> None:
    assert "and 40 more, which /ready names" in seen(many(page_facts.ROWS_MAX + 40, ready=True)).text


def test_a_small_fleet_is_shown_in_full_and_the_ready_ones_give_way(site: Site) -> None:
    site.house.add("new")
    found = seen(site)
    assert len(found.named("article")) == 1
    folds = [each for each in found.named("details") if each.get("class") == "card"]
    assert [("open" in each, each["data-key"]) for each in folds] == [(False, "/data/app.db")]


def test_deploys_are_read_once_however_many_look(site: Site) -> None:
    reads: list[int] = []
    original = site.past.newest

    def counted(limit: int) -> list[dict[str, Any]]:
        reads.append(limit)
        return original(limit)

    site.past.newest = counted  # type: ignore[method-assign] # counts
    app = site.app
    for _ in range(5):
        ask(app)
    assert len(reads) == 1
    site.house.clock.go(timedelta(seconds=6))
    ask(app)
    assert len(reads) == 2


def ask(app: Any) -> None:
    async def go() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
            assert (await client.get("/", headers=BROWSER)).status_code == 200

    asyncio.run(go())


def test_style_and_script_stand_beside_the_package() -> None:
    assert sorted(each.name for each in STATIC.iterdir()) == ["page.css", "page.js"]
    assert Path(page_facts.__file__).parent == STATIC.parent
