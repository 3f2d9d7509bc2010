"""litestream.yml and sidecar.yml as nobody meant them: they are read, or refused in plain sentences that show no secret.

Never another exception, never minutes or gigabytes. The same documents each time.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar import settings as sidecar_yml
from sidecar.adapters import litestream_yml
from sidecar.core.errors import SAID_MAX, ConfigError
from sidecar.core.tree import VALUES_MAX

KEY, PASSWORD, HOOK, SHELL = "KEY-4d9b2c", "PASSWORD-77aa10", "https://hooks/TOKEN-5e55ab", "SHELL-90c1f3"
SECRETS = (KEY, PASSWORD, "TOKEN-5e55ab", SHELL)
LITESTREAM: Mapping[str, Any] = {
    "addr": ":9090", "socket": {"enabled": True, "path": "/run/l.sock"}, "l0-retention": "5m", "levels": [{"interval": "30s"}],
    "snapshot": {"interval": "24h", "retention": "48h"}, "logging": {"level": "info", "stderr": True},
    "dbs": [
        {"path": "/data/app.db", "monitor-interval": "1s", "min-checkpoint-page-count": 1000,
         "replica": {"type": "s3", "bucket": "b", "path": "app", "part-size": "5MB", "force-path-style": True,
                     "access-key-id": "AKIDEXAMPLE", "secret-access-key": KEY, "endpoint": "http://127.0.0.1:9000"}},
        {"dir": "/data/many", "pattern": "*.db", "recursive": True, "watch": True,
         "replica": {"url": f"sftp://user:{PASSWORD}@host:22/many", "key-path": "/k"}},
        {"path": "/data/b.db", "replicas": [{"type": "file", "path": "/replica/b", "sync-interval": "1s"}]},
    ],
}  # fmt: skip
LITESTREAM_03: Mapping[str, Any] = {
    "addr": "127.0.0.1:9090",
    "access-key-id": "AKIDEXAMPLE",
    "secret-access-key": KEY,
    "dbs": [
        {
            "path": "/data/app.db",
            "checkpoint-interval": "1m",
            "replicas": [
                {
                    "type": "s3",
                    "bucket": "b",
                    "path": "app",
                    "retention": "24h",
                    "age": {"identities": [PASSWORD], "recipients": ["r"]},
                },
                {"url": "file:///replica/app", "name": "second", "snapshot-interval": "1h"},
            ],
        },
        {"path": "$HOME/b.db", "meta-path": "~/meta", "replicas": [{"path": "/replica/b"}]},
    ],
}
SIDECAR: Mapping[str, Any] = {
    "litestream": {"binary": "litestream", "socket": None, "metrics-url": "http://h:1/metrics", "command-timeout": "60s"},
    "http": {"listen": "127.0.0.1:9810", "token-file": "/t"}, "scratch-dir": "/scratch",
    "policy": {"look-every": "1m", "max-lag": "2m", "parity": True, "max-shrink": "50%", "schema-version": "auto",
               "assertions": [{"name": "n", "sql": "select 1", "min": 1}, {"name": "m", "sql": "select 2", "equals": "x"}]},
    "databases": {"app": {"path": "/data/app.db", "policy": {"max-lag": "30s"}}},
    "resources": {"drills": 1, "looks": 4, "nice": 10, "scratch-max": "50GiB"}, "rollback": {"keep-count": 3},
    "notify": {"heartbeat-url": HOOK, "webhook-url": HOOK},
}  # fmt: skip

# Text that stands for a value as it is: every kind of scalar, and what only looks like one.
ODD = (
    "", "null", "~", "true", "no", "0", "-1", "0x1F", "0b1", "0o17", "1_000", "12:30:45", ".nan", "-.inf", "1e999", "1" * 400,
    "9" * 4500, "2020-01-01", "2001-12-14t21:59:43.10-05:00", "!!binary aGk=", "!!python/object/apply:os.system [ls]", "!!set {a, b}",
    "!local x", "!x!y z", "&self [*self]", "&self {<<: *self}", "*nowhere", f"*{PASSWORD}", f"!{PASSWORD}!x y", "[]", "{}", "[[[]]]",
    "{[a]: b, {c: d}: e}", "? a", "<<: 1", "'", '"', '"\\0"', '"\\ud800"', '"\\udcff"', '"\\UFFFFFFFF"', '"a\\nb\\r\\u2028c"', '"\\e[2J"',
    "|\n  a\n", "- a\n- b", "a\tb", "\x00", "\ufeff", "\x85", "\u2028", "%", "@", "`", "#", "$NOT_SET", "${", "${}", "$AWS_SECRET_ACCESS_KEY",
    "~root", "~/x", "..", "unix:/" + "a" * 200, ":0", "99999999h", "9" * 30 + "h", "1ns1us1ms", "100%", "sqlite:///x", "s3://%zz", "a" * 100_000,
)  # fmt: skip
ENV = {"HOME": "/home/app", "AWS_SECRET_ACCESS_KEY": SHELL}
SOME = settings(
    max_examples=100, derandomize=True, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


class Raw(str):
    """YAML that is written down as it is."""

    __slots__ = ()


def flow(value: Any) -> str:
    """YAML of a document, in flow style; a list of pairs under `Raw` keys may repeat one."""
    if isinstance(value, Raw):
        return value
    if isinstance(value, Mapping):
        return (
            "{"
            + ", ".join(
                f"{key if isinstance(key, Raw) else json.dumps(key)}: {flow(each)}" for key, each in value.items()
            )
            + "}"
        )
    if isinstance(value, list):
        return "[" + ", ".join(map(flow, value)) + "]"
    return json.dumps(value)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place of a document."""
    for key, each in (
        value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield (*at, key)
        yield from places(each, (*at, key))


def put(value: Any, at: tuple[Any, ...], change: Callable[[Any, Any], list[tuple[Any, Any]]]) -> Any:
    """The document with what stands at a place changed: key and value in, the pairs that come instead out."""
    head, rest = at[0], at[1:]
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    made = [pair for key, each in pairs for pair in (
        [(key, each)] if key != head else [(key, put(each, rest, change))] if rest and places_in(each) else change(key, each)
    )]  # fmt: skip
    return [each for _, each in made] if isinstance(value, list) else dict(made)


def places_in(value: Any) -> bool:
    return isinstance(value, Mapping | list)


def document(value: Any) -> str:
    """One key a line at the top, so that lines are there to be named."""
    return "\n".join(f"{key if isinstance(key, Raw) else json.dumps(key)}: {flow(each)}" for key, each in value.items())


def changes(text: Raw, deep: int) -> dict[str, Callable[[Any, Any], list[tuple[Any, Any]]]]:
    """What can become of a key and its value."""
    return {
        "value": lambda key, _: [(key, text)],
        "key": lambda key, each: [(Raw(text or "''"), each), (f"{key}s", each)],
        "twice": lambda key, each: [(key, each), (Raw(f" {key}"), text)],
        "deep": lambda key, each: [(key, Raw("[" * deep + flow(each) + "]" * deep))],
        "anchor": lambda key, each: [(key, Raw(f"&a {flow(each)}"))],
        "alias": lambda key, _: [(key, Raw("*a"))],
        "merge": lambda key, each: [(key, each), (Raw("<<"), Raw("*a"))],
        "table": lambda key, each: [(key, {"x": each})],
        "list": lambda key, each: [(key, [each, each])],
    }


@st.composite
def mutants(draw: st.DrawFn, good: Mapping[str, Any]) -> str:
    """A good document with up to four things in it changed."""
    made: Any = good
    odd = st.sampled_from(ODD) | st.text(max_size=12).map(json.dumps) | st.text(max_size=12)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.sampled_from(list(places(made))))
        possible = changes(Raw(draw(odd)), draw(st.integers(1, 90)))
        made = put(made, at, possible[draw(st.sampled_from(list(possible)))])
    return document(made)


@contextmanager
def bounded(seconds: float = 5.0, mib: int = 600) -> Iterator[None]:
    """No more processor time, and no more memory on top of what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (mib << 20), limits[1]))
    began = time.process_time()
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert time.process_time() - began < seconds


def sidecar(path: Path) -> None:
    made = sidecar_yml.read(path, ENV)
    for each in (made.scratch, made.keep, *((made.http.token_file,) if made.http.token_file else ())):
        each.exists()  # whatever is taken as a path can be asked for
    for name in made.databases:
        name.encode()
        made.policy_for(name)


READERS: Mapping[str, tuple[Callable[[Path], object], Mapping[str, Any]]] = {
    "litestream.yml": (lambda path: litestream_yml.read(path, ENV), LITESTREAM),
    "0.3": (lambda path: litestream_yml.read(path, ENV, generation="0.3"), LITESTREAM_03),
    "sidecar.yml": (sidecar, SIDECAR),
}


def told(folder: Path, name: str, text: str | bytes) -> list[str]:
    """What is said about a document, () where it is read. Anything but a ConfigError is raised."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    refused: ConfigError | None = None
    with bounded():
        try:
            READERS[name][0](path)
        except ConfigError as error:
            refused = error
    if refused is None:
        return []
    said = [str(each) for each in refused.mistakes]
    assert said
    assert refused.hint
    for each in said:
        assert each.isprintable(), "one line, and nothing that moves a cursor"
        assert 0 < len(each) <= SAID_MAX + 30
    shown = [secret for secret in SECRETS if secret in refused.message + refused.hint]
    assert not shown, (shown, refused.message)
    return said


@pytest.mark.parametrize("name", READERS)
def test_the_documents_that_are_changed_are_good(tmp_path: Path, name: str) -> None:
    assert told(tmp_path, name, document(READERS[name][1])) == []


@pytest.mark.parametrize("name", READERS)
@SOME
@given(data=st.data())
def test_a_good_document_with_something_changed(tmp_path: Path, name: str, data: st.DataObject) -> None:
    text = data.draw(mutants(READERS[name][1]))
    told(tmp_path, name, text)


@pytest.mark.parametrize("name", READERS)
@SOME
@given(text=st.text(max_size=200) | st.text("{}[]:,-?&*!|>'\"%@`# \n\tab$<~.0", max_size=80) | st.binary(max_size=200))
@example(text="")
@example(text="\ufeffdbs: []")
@example(text="\ufeff".encode("utf-16-le") + "dbs: []".encode("utf-16-le"))
@example(text="policy: \x00")
@example(text="---\n---\n---\n")
@example(text="a: \ud800")
def test_anything_at_all(tmp_path: Path, name: str, text: str | bytes) -> None:
    told(tmp_path, name, text)


def laughs(key: str, levels: int = 9, times: int = 9) -> str:
    """Billions of values, in anchors of anchors."""
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * times)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"{key}: *a{levels - 1}"])


def cube(n: int) -> str:
    """Within the depth that the keys allow: databases, of replicas, of identities."""
    one = f"r: &r {{type: file, path: /r, age: {{identities: [{', '.join('x' * n)}]}}}}\n"
    return one + f"d: &d {{path: /x, replicas: [{', '.join(['*r'] * n)}]}}\ndbs: [{', '.join(['*d'] * n)}]"


FAR = "9" * 30 + "h"
MANY = f"is not valid YAML: it holds more than {VALUES_MAX} values, each use of an anchor counted"
HOSTILE: tuple[tuple[str, str, str, str], ...] = (
    ("laughs", "litestream.yml", laughs("dbs"), MANY),
    ("laughs", "sidecar.yml", laughs("policy"), MANY),
    ("cube", "litestream.yml", cube(300), MANY),
    ("variables", "litestream.yml", "x: " + "$a " * 100_000, "dbs: no database is listed (line 1)"),
    ("many variables", "litestream.yml", "x: " + " ".join(f"$a{n}" for n in range(50_000)), "dbs: no database is listed (line 1)"),
    ("depth", "litestream.yml", "[" * 500, "is not valid YAML: it is nested more than 64 deep"),
    ("depth", "sidecar.yml", "[" * 600, "is not valid YAML"),
    ("duration", "litestream.yml", f"l0-retention: {FAR}",
     f"l0-retention: `{FAR}` is not a duration; write one like `30s`, `5m` or `24h` (Litestream has no days) (line 1)"),
    ("size", "sidecar.yml", f"resources: {{scratch-max: {'9' * 19}TB}}", f"resources.scratch-max: `{'9' * 19}TB` is more than any disk holds (line 1)"),
    ("null byte", "litestream.yml", 'dbs: [{dir: "/d\\0", pattern: "*.db", replica: {path: /r}}]', "dbs[0].dir: holds a null byte, which no path may (line 1)"),
    ("null byte", "sidecar.yml", 'scratch-dir: "/d\\0"', "scratch-dir: holds a character that is none: a null byte, or half of one (line 1)"),
    ("surrogate", "sidecar.yml", 'http: {listen: "unix:/\\ud800"}', "http.listen: holds a character that is none: a null byte, or half of one (line 1)"),
    ("no character", "sidecar.yml", 'scratch-dir: "\\UFFFFFFFF"', "is not valid YAML"),
    ("line breaks", "sidecar.yml", 'policy: {max-lag: "1\\n\\e[2J"}', "policy.max-lag: `1 \\x1b[2J` is not a duration; write one like `30s`, `5m`, `1h30m` or `7d` (line 1)"),
    ("password as alias", "sidecar.yml", f"notify: {{webhook-url: *{KEY}}}", "is not valid YAML: found undefined alias '…' (line 1)"),
    ("secret by anchor", "sidecar.yml", f"notify: {{webhook-url: &a '{HOOK}'}}\npolicy: {{max-shrink: *a}}",
     "policy.max-shrink: `***` is not a share; write one like `50%` (line 2)"),
    ("secret by variable", "litestream.yml", "l0-retention: $AWS_SECRET_ACCESS_KEY\ndbs: [{path: /x, replica: {path: /r}}]",
     "l0-retention: `***` is not a duration; write one like `30s`, `5m` or `24h` (Litestream has no days) (line 1)"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "name", "says"), [(text, name, says) for _, name, text, says in HOSTILE],
                         ids=[f"{what}-{name}" for what, name, *_ in HOSTILE])  # fmt: skip
def test_what_was_made_to_harm_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    assert says in told(tmp_path, name, text)


def test_a_file_as_large_as_a_fleet_is_read(tmp_path: Path) -> None:
    """The limit on values is for anchors that multiply, not for ten thousand databases."""
    replica = "&r {type: s3, bucket: b, region: r, endpoint: 'http://h', access-key-id: AKIDEXAMPLE, secret-access-key: x, part-size: 5MB}"
    text = f"r: {replica}\ndbs:\n" + "".join(
        f"- {{path: /d/{n}.db, replica: {{<<: *r, path: p{n}}}}}\n" for n in range(2_000)
    )
    path = tmp_path / "litestream.yml"
    path.write_text(text)
    assert len(litestream_yml.read(path, ENV).databases) == 2_000
