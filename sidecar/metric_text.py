"""The text exposition of families that have a series for every database, written directly, in the classic form and as OpenMetrics.

prometheus_client makes an object and a dictionary of each sample, which costs most of a second and some 30 MB where there are a
thousand databases. What is written here is what it would print, to the byte; a test holds one against the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from prometheus_client.utils import floatToGoString

from sidecar.core.verdict import Verdict
from sidecar.metric_facts import Fact

Named = Sequence[tuple[Verdict, str]]


def with_names(verdicts: Sequence[Verdict]) -> Named:
    """Verdicts, each with its database's name as it stands between the quotes of a label, escaped once."""
    return [(verdict, escaped(valid(verdict.database.name))) for verdict in verdicts]


def valid(text: str) -> str:
    """Valid UTF-8: one name that is none would spoil the whole page. Two such names stay two."""
    return text.encode(errors="backslashreplace").decode()


def escaped(text: str) -> str:
    """As it stands between the quotes of a label."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _figure(value: float) -> str:
    text: str = floatToGoString(value)  # type: ignore[no-untyped-call] # prometheus_client's
    return text


def _head(name: str, kind: str, help_text: str, *, openmetrics: bool) -> str:
    said = help_text.replace("\\", r"\\").replace("\n", r"\n")
    said = said.replace('"', r"\"") if openmetrics else said
    return f"# HELP {name} {said}\n# TYPE {name} {kind}\n"


class _Labels:
    """How the labels of a family stand around the database's name, and the value behind them."""

    def __init__(self, name: str, labels: Sequence[str]) -> None:
        order = sorted(range(len(labels)), key=labels.__getitem__)
        self._before = [each for each in order if labels[each] < "db"]
        self._after = [each for each in order if labels[each] > "db"]
        self._name, self._labels = name, labels
        self._known: dict[tuple[str, ...], tuple[str, str]] = {}

    def around(self, values: tuple[str, ...]) -> tuple[str, str]:
        """What stands before the database's name, and after it up to the value."""
        known = self._known.get(values)
        if known is None:
            pairs = [f'{label}="{escaped(valid(value))}"' for label, value in zip(self._labels, values, strict=True)]
            before = "".join(f"{pairs[each]}," for each in self._before)
            after = "".join(f",{pairs[each]}" for each in self._after)
            known = self._known[values] = (f'{self._name}{{{before}db="', f'"{after}}} ')
        return known


def facts_text(name: str, fact: Fact, named: Named, *, openmetrics: bool) -> str:
    """A family of gauges. What a fact says of many databases in the same words is put into words once."""
    labels, lines = _Labels(name, fact.labels), [_head(name, "gauge", fact.help, openmetrics=openmetrics)]
    said: dict[object, list[str]] = {}
    for verdict, db in named:
        if fact.key is None:
            for values, value in fact.read(verdict):
                if value is not None:
                    before, after = labels.around(values)
                    lines.append(f"{before}{db}{after}{_figure(value)}\n")
            continue
        key = fact.key(verdict)
        pieces = said.get(key)
        if pieces is None:
            pieces = said[key] = _pieces(labels, fact, verdict)
        lines.append(db.join(pieces))
    return "".join(lines)


def _pieces(labels: _Labels, fact: Fact, verdict: Verdict) -> list[str]:
    """All that a fact says of a database, cut where its name is to stand."""
    pieces = [""]
    for values, value in fact.read(verdict):
        if value is not None:
            before, after = labels.around(values)
            pieces[-1] += before
            pieces.append(f"{after}{_figure(value)}\n")
    return pieces


def counter_text(
    name: str, help_text: str, labels: Sequence[str], counted: Mapping[tuple[str, ...], int], *, openmetrics: bool
) -> str:
    """A family of counters, by their labels."""
    total = f"{name}_total"
    order = sorted(range(len(labels)), key=labels.__getitem__)
    return _head(name if openmetrics else total, "counter", help_text, openmetrics=openmetrics) + "".join(
        f"{total}{{{_pairs(labels, key, order)}}} {_figure(count)}\n" for key, count in sorted(counted.items())
    )


def _pairs(labels: Sequence[str], values: Sequence[str], order: Iterable[int]) -> str:
    return ",".join([f'{labels[each]}="{escaped(valid(values[each]))}"' for each in order])
