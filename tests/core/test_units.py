"""Spellings: Go's and our own durations, sizes, shares, file patterns, and the masking of secrets."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import timedelta

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core import golang, tree, units
from sidecar.core.naming import names
from sidecar.core.redact import redact

DURATIONS = [
    ("30s", 30), ("5m", 300), ("1h30m", 5400), ("26h", 93600), ("7d", 604800), ("1d12h", 129600), ("1.5h", 5400),
    ("250ms", 0.25), (" 5m ", 300),
]  # fmt: skip


@pytest.mark.parametrize(("text", "seconds"), DURATIONS)
def test_durations(text: str, seconds: float) -> None:
    assert units.duration(text) == timedelta(seconds=seconds)


SIZES = [
    ("500MB", 500_000_000),
    ("10GiB", 10 * 1024**3),
    ("1k", 1000),
    ("1KiB", 1024),
    ("12", 12),
    ("1.5 MB", 1_500_000),
]


@pytest.mark.parametrize(("text", "size_bytes"), SIZES)
def test_sizes(text: str, size_bytes: int) -> None:
    assert units.size(text) == size_bytes


@pytest.mark.parametrize(("text", "share"), [("50%", 0.5), ("0.5", 0.5), ("100 %", 1.0), ("0", 0.0)])
def test_shares(text: str, share: float) -> None:
    assert units.share(text) == share


REFUSED: Sequence[tuple[Callable[[str], object], str]] = [
    (units.duration, each) for each in ("", "5", "5 m", "m", "1d 2h", "-5m", "5M", "1e3s", "٣s5")
] + [(units.size, each) for each in ("", "MB", "5XB", "-1GB", "5iB", "1,5MB")] + [
    (units.share, each) for each in ("", "%", "101%", "-1%", "nan", "half")
] + [(golang.duration, each) for each in ("", "5", "1d", "-", ".s", "1h ", "1 h", "m")]  # fmt: skip


@pytest.mark.parametrize(("read", "text"), REFUSED)
def test_what_is_not_a_quantity_is_refused(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) or None):
        read(text)


@given(st.timedeltas(timedelta(0), timedelta(days=1000)))
def test_what_is_spelled_can_be_read_again(length: timedelta) -> None:
    milliseconds = timedelta(milliseconds=round(length.total_seconds() * 1000))
    assert units.duration(units.spell(length)) == milliseconds


GO_DURATIONS = [
    ("1h30m", 5400 * 10**9),
    ("-1.5s", -1_500_000_000),
    ("0", 0),
    ("1us", 1000),
    ("+5ns", 5),
    (".5s", 5 * 10**8),
]


@pytest.mark.parametrize(("text", "nanoseconds"), GO_DURATIONS)
def test_go_durations(text: str, nanoseconds: int) -> None:
    assert golang.duration(text) == nanoseconds


PATTERNS = [
    ("*.db", "a.db", True), ("*.db", ".db", True), ("*.db", "a.dbx", False), ("?.db", "é.db", True), ("[a-c]", "b", True),
    ("[^a-c]", "b", False), ("[!a]", "!", True), ("[a-]", None, False), ("[]a]", None, False), ("[a", None, False),
    ("a\\", None, False), ("\\*", "*", True), ("\\*", "a", False), ("[z-a]", "b", False), ("[^z-a]", "b", True),
    ("[\\]]", "]", True), ("a+b", "a+b", True), ("**", "ab", True), ("a", "a\n", False), ("*", "a\nb", True),
    ("]", "]", True), ("-", "-", True),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "name", "matches"), PATTERNS)
def test_file_patterns(pattern: str, name: str | None, matches: bool) -> None:  # noqa: FBT001 - a column of the table
    if name is None:
        with pytest.raises(ValueError, match=re.escape(pattern)):
            golang.pattern(pattern)
    else:
        assert bool(golang.pattern(pattern).fullmatch(name)) is matches


PATHS = [("", "."), ("//a//b/", "/a/b"), ("/../a", "/a"), ("a/../..", ".."), ("/", "/"), ("//", "/")]


@pytest.mark.parametrize(("path", "clean"), PATHS)
def test_clean(path: str, clean: str) -> None:
    assert golang.clean(path) == clean


def test_join() -> None:
    assert golang.join("", "a") == "a"
    assert golang.join("", "") == ""
    assert golang.join("/a/", "../b") == "/b"


@given(st.lists(st.text("ab./", max_size=8), max_size=8))
def test_names_are_unique_and_do_not_depend_on_the_order(parts: list[str]) -> None:
    paths = [golang.clean("/" + part + "/x.db") for part in parts] + [golang.clean("/" + part) for part in parts]
    given_names = names(paths, {})
    assert len(set(given_names.values())) == len(set(paths))
    assert names(paths[::-1], {}) == given_names


@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=50), inner, max_size=3)))  # fmt: skip
def test_a_tree_written_out_is_read_as_the_same_tree(value: object) -> None:
    written = yaml.safe_dump(value)
    made = tree.of_node(yaml.compose(written, Loader=yaml.SafeLoader))
    again = tree.dump(made)
    assert yaml.safe_load(again) == value
    assert "\n" not in again


MASKED = [
    ("replica path cannot be a url, please: s3://AK:SEKRET@bkt/x", "s3://***@bkt/x"),
    ("s3://AK:SEK/RET@bkt/x and sftp://me:p@SEKRET@h/y", "sftp://***@h/y"),
    ('Get "https://user:SEKRET@h:1/x": refused', 'Get "https://***@h:1/x": refused'),
    ("secret-access-key: SEKRET", "secret-access-key: ***"),
    ('{"secretAccessKey":"SEKRET","a":1}', '{"secretAccessKey":"***","a":1}'),
    ("access-key-id: AKSEKRET\nregion: x", "access-key-id: ***\nregion: x"),
    ("PUT /x?X-Amz-Signature=SEKRET&X-Amz-Date=1", "X-Amz-Signature=***&X-Amz-Date=1"),
    ("https://a.blob/x?sv=1&sig=SEKRET&se=2", "&sig=***&se=2"),
    ("Authorization: Bearer SEKRET", "Authorization: ***"),
    ("key AKIAIOSFODNN7EXAMPLE is wrong", "key *** is wrong"),
    ("identity AGE-SECRET-KEY-1SEKRET", "identity ***"),
    ("sas-token: SEKRET", "sas-token: ***"), ("webdav-password='SEKRET'", "webdav-password='***'"),
    ("nats://me@h and sftp://u:a:b@SEKRET:x@h", "nats://***@h and sftp://***@h"),
    ("jwt: SEKRET seed: SEKRET nkey: SEKRET creds=SEKRET", "jwt: *** seed: *** nkey: *** creds=***"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "shown"), MASKED, ids=[each[1] for each in MASKED])
def test_secrets_are_masked(text: str, shown: str) -> None:
    assert "SEKRET" not in redact(text)
    assert "AKIAIOSFODNN7EXAMPLE" not in redact(text)
    assert shown in redact(text)


UNTOUCHED = [
    "s3: put object app/0000/x.ltx: SignatureDoesNotMatch: The request signature we calculated does not match",
    "cannot connect to http://127.0.0.1:9000/bkt/app: connection refused",
    "database not found in config: /data/app.db", "no matching backup files available",
    "file:///data/rep and s3://bucket/path?region=x", "mail me@example.com",
]  # fmt: skip


@pytest.mark.parametrize("text", UNTOUCHED)
def test_what_holds_no_secret_stays_readable(text: str) -> None:
    assert redact(text) == text


def test_known_secrets_are_masked_wherever_they_stand_and_short_ones_are_left() -> None:
    assert redact("said hunter22 in abc", ("hunter22", "abc", "")) == "said *** in abc"
