"""The status page for people: one HTML document, its style and script inside it, and the headers that keep it harmless."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sidecar.core.decision import Word
from sidecar.core.finding import Reason
from sidecar.core.model import Drill
from sidecar.core.parity import ParityResult
from sidecar.core.people import bytes_for_people, seconds_for_people
from sidecar.page_cards import BAD, GOOD, TONES, address, badge, card, proven, row
from sidecar.page_facts import Facts
from sidecar.page_html import Html, exactly, joined, name_of, spoken, tag, text, when

STATIC = Path(__file__).with_name("static")
OPEN_ROWS_MAX = 50  # a longer list begins folded
RELOAD_S = 10  # without a script
TITLE_MAX = 120
_WORDS = {Word.PASSED: GOOD, Word.REFUSED: BAD}


@dataclass(frozen=True, slots=True)
class Looks:
    """Style and script as they stand in the page, and the headers that allow these two and nothing else."""

    style: Html
    script: Html
    headers: Mapping[str, str]


@cache
def looks() -> Looks:
    """Read once, when somebody looks at the page for the first time."""
    style, script = ((STATIC / name).read_text(encoding="utf-8").strip() for name in ("page.css", "page.js"))
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Looks(
        Html(f"<style>{style}</style>"),
        Html(f"<script>{script}</script>"),
        {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Vary": "Accept",
        },
    )


def _digest(content: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def page(facts: Facts) -> bytes:
    """The page of all databases, or of one."""
    ready = facts.fleet.ready
    title = f"{'Ready' if ready else 'Not ready'}: {facts.fleet.reason}"
    body = joined(
        _verdict(facts),
        *_notes(facts),
        *(card(each, one=facts.one, folded=each.verdict.ready and not ready) for each in facts.full),
        _rows(facts),
        _drills(facts),
        _decisions(facts),
    )
    only = facts.fleet.verdicts[0].database.name if facts.one and facts.fleet.verdicts else None
    return _document(title, GOOD if ready else BAD, body, facts.version, only)


def not_there(error: str, hint: str, version: str) -> bytes:
    """The page of a database that nobody knows (any more)."""
    verdict = tag(
        "section", tag("h1", "Unknown"), tag("p", error, class_="reason"), tag("p", hint), class_="verdict bad"
    )
    return _document(error, BAD, verdict, version, "")


def _document(title: str, tone: str, body: Html, version: str, only: str | None) -> bytes:
    colour = "1a7f37" if tone == GOOD else "c11f28"
    icon = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><circle cx="4" cy="4" r="4" fill="#{colour}"/></svg>'
    head = joined(
        tag("meta", charset="utf-8"),
        tag("title", text(title, TITLE_MAX)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("link", rel="icon", href=f"data:image/svg+xml,{quote(icon)}"),
        tag("noscript", Html(f'<meta http-equiv="refresh" content="{RELOAD_S}">')),
        looks().style,
    )
    top = tag(
        "header",
        tag("a", "litestream-sidecar", href="/") if only is not None else tag("span", "litestream-sidecar"),
        tag("button", "pause", id="pause", type="button", hidden=True),
        class_="top",
    )
    evidence = f"/databases/{quote(only, safe='', errors='surrogateescape')}" if only else None
    routes = [
        ("/ready", "/ready"),
        ("/ready?format=text", "as text"),
        ("/metrics", "/metrics"),
        ("/openapi.json", "/openapi.json"),
    ]
    if evidence is not None:
        routes.insert(0, (evidence, "all evidence"))
    links = [tag("a", label, href=href) for href, label in routes]
    foot = tag(
        "footer", tag("p", *(part for each in links for part in (each, " "))), tag("p", f"litestream-sidecar {version}")
    )
    trouble = tag("p", id="trouble", role="alert", hidden=True)
    content = joined(top, trouble, tag("main", body), foot, looks().script)
    whole = tag("html", tag("head", head), tag("body", content), lang="en", data_version=version)
    return f"<!doctype html>\n{whole}\n".encode()


def _verdict(facts: Facts) -> Html:
    fleet = facts.fleet
    waiting = "Waiting alone may change this." if fleet.retryable else "Waiting alone does not change this."
    bad, all_of_them = sum(not each.ready for each in fleet.verdicts), len(fleet.verdicts)
    share = (
        f"{bad} of {all_of_them} databases {'is' if bad == 1 else 'are'} not ready. " if bad and all_of_them > 1 else ""
    )
    checked = fleet.checked_at.astimezone(UTC)
    return tag(
        "section",
        tag(  # read aloud when it changes
            "div",
            tag("h1", "Ready" if fleet.ready else "Not ready"),
            tag("p", spoken(fleet.reason), class_="reason"),
            role="status",
        ),
        tag("p", f"{share}{waiting}") if not fleet.ready else None,
        tag(
            "p",
            "judged at ",
            tag("time", f"{checked:%H:%M:%S} UTC", datetime=f"{checked:%Y-%m-%dT%H:%M:%SZ}"),
            class_="at",
        ),
        class_=f"verdict {GOOD if fleet.ready else BAD}",
    )


def _notes(facts: Facts) -> Iterator[Html]:
    """What is wrong with the sidecar itself."""
    if not facts.alive:
        yield tag(
            "p", "The daemon's loop does not turn: nothing new is learnt. Its log says why; restart it.", class_="note"
        )
    if facts.stale is not None:
        yield tag("p", "The changed configuration is not in force: ", tag("bdi", facts.stale), class_="note")
    if facts.past_error is not None:
        yield tag("p", "Past deploys cannot be read: ", tag("bdi", facts.past_error), class_="note")


def _rows(facts: Facts) -> Html | None:
    if not facts.rows:
        return None
    count = len(facts.rows) + facts.unlisted
    others = "other " if facts.full else ""
    summary = tag("summary", tag("h2", f"{count} {others}database{'' if count == 1 else 's'}"))
    more = tag("p", f"and {facts.unlisted} more, which /ready names") if facts.unlisted else None
    return tag(
        "details", summary, tag("ul", *(row(each) for each in facts.rows), class_="rows"), more,
        open=len(facts.rows) <= OPEN_ROWS_MAX, class_="card", data_key="rows",
    )  # fmt: skip


def _drills(facts: Facts) -> Html:
    now = facts.fleet.checked_at
    listed = tag("ol", *(_drill(name, each, facts, now) for name, each in facts.drills), class_="past")
    none = tag("p", "None has been recorded yet.")
    return tag(
        "section", tag("h2", "Newest drills"), listed if facts.drills else none, class_="card", data_key="drills"
    )


def _drill(name: str, drill: Drill, facts: Facts, now: datetime) -> Html:
    stages = (
        ("plan", drill.plan_seconds),
        ("restore", drill.restore_seconds),
        ("bring forward", drill.apply_seconds),
        ("check", drill.check_seconds),
        ("parity", drill.parity_seconds),
    )
    took = [f"{stage} {seconds_for_people(seconds)}" for stage, seconds in stages if seconds is not None]
    if drill.size_bytes is not None:
        took.append(bytes_for_people(drill.size_bytes))
    took.append(f"{drill.check.value}_check" if drill.check.value == "quick" else "integrity_check")
    if drill.verifier is not None:
        took.append(f"made by {drill.verifier}")
    parity = drill.parity
    if parity is not None:
        took.append(proven(parity))
    told: Html | None = None
    if drill.reason is not None:
        told = _told(drill.reason, drill.message, drill.hint)
    elif parity is not None and parity.result is ParityResult.INCONCLUSIVE:
        told = _told(Reason.NOT_COMPARED.value, parity.message, parity.hint)
    kept = parity.kept if parity is not None else None
    return tag(
        "li",
        tag(
            "p",
            badge(drill.outcome.value, TONES[drill.outcome]), " ",
            None if facts.one else joined(tag("a", name_of(name), href=address(name)), " "),
            when(drill.finished_at, now),
        ),
        tag("p", " · ".join(took), class_="stages"),
        told,
        tag("p", "both versions of the first of them: ", tag("code", name_of(kept, 1000)), class_="says") if kept else None,
        data_key=exactly(drill.id),
    )  # fmt: skip


def _told(reason: str, message: str, hint: str) -> Html:
    """What was found, and the way out."""
    return joined(
        tag("p", tag("code", reason), " ", spoken(message), class_="says"),
        tag("p", tag("b", "try"), " ", spoken(hint), class_="hint") if hint else None,
    )


def _decisions(facts: Facts) -> Html | None:
    if not facts.decisions:
        return None
    listed = tag("ol", *(_decision(each, facts.fleet.checked_at) for each in facts.decisions), class_="past")
    return tag("section", tag("h2", "Newest deploys"), listed, class_="card", data_key="deploys")


def _decision(decision: Mapping[str, Any], now: datetime) -> Html:
    word, names = str(decision.get("decision")), decision.get("databases") or ()
    receipt, override = decision.get("receipt"), decision.get("override")
    return tag(
        "li",
        tag(
            "p",
            badge(word, _WORDS.get(Word(word), "doubt") if word in set(Word) else "doubt"), " ",
            tag("b", str(decision.get("kind"))), " ", _names(names), " ", _at(decision.get("at"), now),
        ),
        tag("p", spoken(str(decision.get("reason"))), class_="says"),
        tag("p", "overridden: ", tag("bdi", str(override)), class_="says") if override else None,
        tag("p", "receipt ", tag("code", text(str(receipt), 100)), class_="stages") if receipt else None,
        data_key=exactly(f"{decision.get('kind')} {decision.get('at')} {receipt}"),
    )  # fmt: skip


def _names(names: Sequence[Any]) -> Html:
    shown = [name_of(str(each)) for each in names[:5]]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else None
    return joined(*(part for number, each in enumerate(shown) for part in (", " if number else None, each)), more)


def _at(at: object, now: datetime) -> Html | None:
    try:
        return when(datetime.fromisoformat(str(at)), now)
    except ValueError:
        return None
