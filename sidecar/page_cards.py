"""The parts of the status page that are about one database: its checks, its figures, its plots, the way back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from urllib.parse import quote

from sidecar.core.finding import Finding, Status
from sidecar.core.model import Drill, Outcome
from sidecar.core.parity import Parity, ParityResult
from sidecar.core.people import bytes_for_people, seconds_for_people, share_for_people
from sidecar.core.receipt import Kept
from sidecar.core.verdict import Verdict, lag_seconds
from sidecar.page_facts import Subject
from sidecar.page_html import Html, exactly, joined, name_of, spoken, tag, text, when
from sidecar.page_plots import drill_plot, lag_plot

ORDER = {Status.FAIL: 0, Status.UNKNOWN: 1, Status.WARN: 2, Status.PASS: 3}
GOOD, BAD = "good", "bad"
TONES = {
    Status.PASS: GOOD, Status.WARN: "doubt", Status.UNKNOWN: "doubt", Status.FAIL: BAD,
    Outcome.PASSED: GOOD, Outcome.FAILED: BAD, Outcome.INCONCLUSIVE: "doubt", Outcome.ABORTED: "doubt",
}  # fmt: skip
ROW_MESSAGE_MAX = 160
NOT_IN_REACH = "Only its backup is judged: production is not in reach of this daemon."


def address(name: str) -> str:
    """Where one database's page is. A name may hold anything, bytes of no encoding too."""
    return f"/?db={quote(name, safe='', errors='surrogateescape')}"


def badge(word: str, tone: str) -> Html:
    """A word that stands out; its colour says nothing that the word does not say."""
    return tag("span", word, class_=f"badge {tone}")


def card(subject: Subject, *, one: bool, folded: bool) -> Html:
    """A database in full; `folded` where others need the room."""
    verdict = subject.verdict
    database = verdict.database
    name, key = name_of(database.name), exactly(database.path)
    word = badge("ready", GOOD) if verdict.ready else badge("not ready", BAD)
    own = tag("a", name, href=address(database.name))
    busy = tag("span", f"a drill is {subject.drilling}", class_="busy") if subject.drilling is not None else None
    places = joined(tag("code", name_of(database.path)), " to ", tag("code", name_of(database.replica.label)))
    about = joined(
        tag("p", joined(own, ": ") if folded else None, places, class_="places"),
        None if database.in_reach else tag("p", NOT_IN_REACH, class_="says"),
        checks(verdict.judged.findings, key),
        figures(subject),
        tag(
            "div",
            lag_plot(subject.curve, lag_seconds(verdict.evidence, verdict.now), subject.policy.max_lag, verdict.now),
            drill_plot(subject.drills),
            class_="plots",
        ),
        way_back(subject.kept, verdict),
    )
    if folded:
        return tag("details", tag("summary", tag("h2", name), " ", word, " ", busy), about, class_="card", data_key=key)
    heading = tag("h2", name if one else own)
    return tag("article", tag("header", heading, " ", word, " ", busy), about, class_="card", data_key=key)


def checks(findings: Sequence[Finding], key: str) -> Html:
    """What is not a pass, the worst first, with its way out; the passes folded away."""
    passed = [each for each in findings if each.status is Status.PASS]
    told = sorted((each for each in findings if each.status is not Status.PASS), key=lambda each: ORDER[each.status])
    fold = tag(
        "details",
        tag("summary", f"{len(passed)} check{'s' if len(passed) != 1 else ''} pass{'es' if len(passed) == 1 else ''}"),
        tag("ul", *(_check(each) for each in passed), class_="checks"),
        data_key=f"passes {key}",
    )
    return joined(
        tag("ul", *(_check(each) for each in told), class_="checks") if told else None, fold if passed else None
    )


def _check(finding: Finding) -> Html:
    reason = tag("code", finding.reason.value) if finding.reason is not None else None
    return tag(
        "li",
        tag("p", badge(finding.status.value, TONES[finding.status]), " ", tag("b", finding.name), " ", reason),
        tag("p", spoken(finding.message), class_="says"),
        tag("p", tag("b", "try"), " ", spoken(finding.hint), class_="hint")
        if finding.hint and finding.status is not Status.PASS
        else None,
        data_key=finding.name,
    )


def figures(subject: Subject) -> Html:
    """What a person asks for first, as a list of terms."""
    verdict, policy = subject.verdict, subject.policy
    known, now = verdict.evidence, verdict.now
    proved, listing, content = known.last_passed, known.listing, known.content
    lag = lag_seconds(known, now)
    live = known.live if known.live is not None and known.live.file_id is not None else None
    pairs: list[tuple[str, Html]] = [
        ("Lag", text(f"{seconds_for_people(lag)} (limit {seconds_for_people(policy.max_lag.total_seconds())})")
         if lag is not None else text("not known")),
        ("Last proof", joined(when(proved.finished_at, now), f" ({proved.check.value} check)")
         if proved is not None else text("never")),
        ("Compared", _compared(subject)),
        ("Time to restore", text(_restore(proved)) if proved is not None else text("not known")),
        ("Database", text(bytes_for_people(live.size_bytes) if live is not None else "not there")),
        ("WAL", text(bytes_for_people(live.wal_bytes) if live is not None else "not there")),
        ("Newest snapshot", when(listing.snapshot_at, now)
         if listing is not None and listing.snapshot_at is not None else text("none seen")),
        ("Schema", joined(tag("bdi", text(content.schema_version.value, 100)), " (", tag("bdi", content.schema_version.source), ")")
         if content is not None and content.schema_version is not None else text("not known")),
    ]  # fmt: skip
    return tag("dl", *(tag("div", tag("dt", term), tag("dd", value)) for term, value in pairs), class_="figures")


def proven(parity: Parity) -> str:
    """What a comparison says of the copy's pages, in a few words."""
    if parity.result is ParityResult.DIFFERENT:
        return f"{parity.differing} of {parity.pages} pages differ"
    if parity.result is ParityResult.INCONCLUSIVE:
        return "not compared"
    if parity.proven == parity.pages:
        return f"all {parity.pages} pages proven"
    return f"{share_for_people(parity.proven, parity.pages)} of {parity.pages} pages proven"


def _compared(subject: Subject) -> Html:
    """Of the last comparison that found out."""
    compared, now = subject.verdict.evidence.last_compared, subject.verdict.now
    if not subject.policy.compares:
        return text("not asked for")
    if compared is None or compared.parity is None:
        return text("never")
    return joined(proven(compared.parity), ", ", when(compared.finished_at, now))


def _restore(drill: Drill) -> str:
    if drill.restore_seconds is None:
        return "not measured"
    whole = (drill.plan_seconds or 0.0) + drill.restore_seconds
    return f"{seconds_for_people(whole)}, {bytes_for_people(drill.size_bytes)}"


def way_back(kept: Kept | None, verdict: Verdict) -> Html:
    """What a rollback would put in place: a file that exists, not a number."""
    title = tag("h3", "Way back")
    if kept is None:
        proved = verdict.evidence.last_passed
        none = tag("p", spoken("No artifact is kept. `litestream-sidecar gate` keeps one before a deploy."))
        newest = f"The newest drill restored {proved.position}; compaction soon takes that away." if proved else ""
        return tag("section", title, none, tag("p", newest, class_="places") if newest else None, class_="back")
    at = _gated_at(kept.receipt_id)
    deploy = "its deploy was proved good" if kept.proved else "its deploy is not proved good"
    command = f"litestream-sidecar rollback --receipt {kept.receipt or f'RECEIPT  # of the gate {kept.receipt_id}'}"
    return tag(
        "section",
        title,
        tag(
            "p",
            "Kept by the gate ", when(at, verdict.now) if at is not None else kept.receipt_id,
            f", {bytes_for_people(kept.size_bytes)}; {deploy}.",
        ),
        tag("p", tag("code", name_of(kept.artifact, 1000)), class_="places"),
        tag("p", tag("b", "see the plan"), " ", tag("code", tag("bdi", command)), class_="hint"),
        class_="back",
    )  # fmt: skip


def _gated_at(receipt_id: str) -> datetime | None:
    """A receipt's id begins with the time of its gate."""
    try:
        return datetime.strptime(f"{receipt_id.partition('-')[0]}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError:
        return None


def row(verdict: Verdict) -> Html:
    """A database as one line, with a link to all of it."""
    name = verdict.database.name
    blocking = min(verdict.judged.blocking, key=lambda each: ORDER[each.status], default=None)
    lag, proved = lag_seconds(verdict.evidence, verdict.now), verdict.evidence.last_passed
    if blocking is None:
        says = joined(
            f"lag {seconds_for_people(lag)}, " if lag is not None else "lag not known, ",
            "proved " if proved is not None else "never proved",
            when(proved.finished_at, verdict.now) if proved is not None else None,
        )
    else:
        says = joined(tag("b", blocking.name), " ", tag("bdi", text(blocking.message, ROW_MESSAGE_MAX)))
    return tag(
        "li",
        badge("ready", GOOD) if blocking is None else badge("not ready", BAD), " ",
        tag("a", name_of(name, ROW_MESSAGE_MAX), href=address(name)), " ", tag("span", says),
        data_key=exactly(verdict.database.path),
    )  # fmt: skip
