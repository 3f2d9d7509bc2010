"""Two small plots as inline SVG: the lag over time, and what each drill took. What they show is said in words as well.

The drawing is stretched to the column's width, so it holds no letters: words and scales stand around it as text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from sidecar.core.model import Drill, Outcome
from sidecar.core.people import seconds_for_people
from sidecar.page_html import Html, joined, tag
from sidecar.trace import Curve

WIDTH, HEIGHT = 600, 100
POINTS_MAX = 200
BAR_SHARE = 0.7  # of the room that a drill has
SCALE_ENDS = (
    *(size * each for size in (0.001, 0.01, 0.1, 1.0) for each in (1, 2, 5)),
    *(60.0 * each for each in (0.25, 0.5, 1, 2, 3, 5, 10, 15, 30)),
    *(3600.0 * each for each in (1, 2, 3, 6, 12)),
)  # seconds
DAY_S = 86400.0
BARS_MIN = 6  # fewer are not drawn wider
STAGES = ("restore", "check", "parity")  # plan takes milliseconds


def lag_plot(curve: Curve | None, lag: float | None, limit: timedelta, now: datetime) -> Html:
    """The lag over time and now, the limit as a dashed line. Where nobody knew it, there is no line."""
    past = [] if curve is None else list(zip(curve.at, curve.seconds, strict=True))
    samples = [*past, (now, math.nan if lag is None else lag)]
    known = [seconds for _, seconds in samples if not math.isnan(seconds)]
    if not past or not known:
        return tag("figure", _caption("Lag", "nothing is known yet"), class_="plot")
    began, limit_s, worst = samples[0][0], limit.total_seconds(), max(known)
    span = max((now - began).total_seconds(), 1.0)
    since = f"since {began:%H:%M} UTC" if span < DAY_S else f"since {began:%d %b %H:%M} UTC"
    told = (
        f"{since}: {'unknown' if lag is None else seconds_for_people(lag)} now, {seconds_for_people(worst)} at the worst, "
        f"{seconds_for_people(limit_s)} allowed (dashed)"
    )
    top = _end_of_scale(max(limit_s, worst) * 1.05)
    points = [
        (min(max((at - began).total_seconds() / span, 0.0), 1.0) * WIDTH, seconds)  # a clock may have been set back
        for at, seconds in samples
    ]
    allowed = HEIGHT * (1 - limit_s / top)
    drawing = joined(
        tag("path", d=f"M0 {allowed:.1f}H{WIDTH}", class_="limit", vector_effect="non-scaling-stroke"),
        *(_line(run, top) for run in _runs(_thinned(points))),
    )
    return _figure("Lag", told, drawing, seconds_for_people(top), (f"{began:%H:%M}", "now"))


def _end_of_scale(value: float) -> float:
    """A round figure that the plot reaches up to."""
    return next((each for each in SCALE_ENDS if each >= value), math.ceil(value / DAY_S) * DAY_S)


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """As many points as can be told apart, each the worst of those that it stands for."""
    size = max(math.ceil(len(points) / POINTS_MAX), 1)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [max(each, key=lambda point: -1.0 if math.isnan(point[1]) else point[1]) for each in groups]


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """The points between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if math.isnan(point[1]):
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _line(run: Sequence[tuple[float, float]], top: float) -> Html:
    places = [f"{x:.1f} {HEIGHT * (1 - value / top):.1f}" for x, value in run]
    if len(places) == 1:
        places.append(f"{min(run[0][0] + 2, WIDTH):.1f} {places[0].split()[1]}")
    line, left, right = "L".join(places), run[0][0], max(run[-1][0], run[0][0] + 2)
    return joined(
        tag("path", d=f"M{left:.1f} {HEIGHT}L{line}L{right:.1f} {HEIGHT}Z", class_="area"),
        tag("path", d=f"M{line}", class_="line", vector_effect="non-scaling-stroke"),
    )


def drill_plot(drills: Sequence[Drill]) -> Html:
    """What the drills took, oldest first: restore (or bringing forward) below, check and parity on top. One that did not pass is a bar of its own colour."""
    timed = [
        each
        for each in reversed(drills)
        if each.restore_seconds is not None or each.by_change or each.outcome is not Outcome.PASSED
    ]
    if not timed:
        return tag("figure", _caption("Drills", "none yet"), class_="plot")
    passed = [each for each in timed if each.outcome is Outcome.PASSED]
    top = _end_of_scale(max(map(_took, timed)))
    bad = len(timed) - len(passed)
    told = f"the last {len(timed)}" if len(timed) > 1 else "one"
    if passed:
        stages = [
            f"{stage} {seconds_for_people(seconds)}" for stage, seconds in _stages(passed[-1]) if seconds is not None
        ]
        told += f": {' and '.join(filter(None, (', '.join(stages[:-1]), stages[-1])))}" if stages else ""
        told += f" at the newest that passed, {seconds_for_people(max(map(_took, passed)))} in all at the slowest"
    told += f"; {bad} did not pass" if bad else "" if len(timed) == 1 else "; all passed"
    room = WIDTH / max(len(timed), BARS_MIN)
    bars = [
        _bar(each, WIDTH - (len(timed) - number) * room, room * BAR_SHARE, top) for number, each in enumerate(timed)
    ]
    oldest = f"{timed[0].finished_at:%d %b %H:%M}" if len(timed) >= BARS_MIN else ""
    drawn = [stage for stage in STAGES if any(dict(_stages(each))[stage] is not None for each in timed)]
    key = joined(*(part for stage in drawn for part in (tag("span", stage, class_=f"key {stage}"), " ")))
    return _figure("Drills", told, joined(*bars), seconds_for_people(top), (oldest, "newest"), key)


def _stages(drill: Drill) -> tuple[tuple[str, float | None], ...]:
    """What takes long, in the order in which it is drawn."""
    brought = drill.apply_seconds if drill.by_change else drill.restore_seconds
    return tuple(zip(STAGES, (brought, drill.check_seconds, drill.parity_seconds), strict=True))


def _took(drill: Drill) -> float:
    return sum(seconds or 0.0 for _, seconds in _stages(drill))


def _bar(drill: Drill, left: float, wide: float, top: float) -> Html:
    def part(seconds: float, above: float, kind: str) -> Html:
        height = HEIGHT * seconds / top
        return tag("rect", x=f"{left:.1f}", y=f"{HEIGHT - HEIGHT * above / top - height:.1f}", width=f"{wide:.1f}",
                   height=f"{height:.1f}", class_=kind)  # fmt: skip

    about = f"{drill.finished_at:%Y-%m-%d %H:%M} UTC: {drill.outcome.value}"
    if drill.outcome is not Outcome.PASSED:
        return tag("g", tag("title", about), part(top, 0.0, f"bad {drill.outcome.value}"))
    parts, above = [], 0.0
    for stage, seconds in _stages(drill):
        if seconds is not None:
            about += f", {stage} {seconds_for_people(seconds)}"
            parts.append(part(seconds, above, stage))
            above += seconds
    return tag("g", tag("title", about), *parts)


def _caption(what: str, told: str, more: Html | None = None) -> Html:
    return tag("figcaption", tag("b", what), " ", told, *((" ", more) if more is not None else ()))


def _figure(what: str, told: str, drawing: Html, top: str, ends: tuple[str, str], more: Html | None = None) -> Html:
    picture = tag(
        "svg", drawing, viewBox=f"0 0 {WIDTH} {HEIGHT}", preserveAspectRatio="none", role="img",
        aria_label=f"{what} {told}", focusable="false",
    )  # fmt: skip
    return tag(
        "figure",
        _caption(what, told, more),
        tag("div", tag("span", top, class_="top", aria_hidden="true"), picture, class_="drawing"),
        tag("div", tag("span", ends[0]), tag("span", ends[1]), class_="ends", aria_hidden="true"),
        class_="plot",
    )
