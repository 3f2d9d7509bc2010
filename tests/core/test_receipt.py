"""A receipt comes back from its JSON as it was, and one that was altered anywhere, or is none, is refused with a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sidecar.core.errors import ReceiptError
from sidecar.core.fields import HINT, Fields
from sidecar.core.receipt import Receipt, digest_of, receipt_document, receipt_of
from tests.core.evidences import NOW
from tests.core.receipts import KEY, entry, everything, receipt

Place = tuple[str | int, ...]


def text_of(made: Receipt, key: bytes | None = None) -> str:
    return json.dumps(receipt_document(made, key))


def signed_anew(document: Mapping[str, Any], key: bytes | None = None) -> str:
    """As somebody writes it who knows how digests are made: what else is wrong must show."""
    return json.dumps({**document, "digest": digest_of(document, key)})


def refusal(text: str, key: bytes | None = None) -> str:
    with pytest.raises(ReceiptError) as caught:
        receipt_of(text, "r.json", key)
    assert caught.value.message.startswith("r.json")
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value.message.removeprefix("r.json").lstrip(": ")


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place in a document that holds a plain value, or an empty object or list."""
    inside: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        inside = iter(value.items())
    elif isinstance(value, list):
        inside = iter(enumerate(value))
    found = False
    for name, each in inside:
        found = True
        yield from leaves(each, (*place, name))
    if not found:
        yield place


def changed(document: Any, place: Place, *value: Any) -> Any:
    """A copy of the document with this value at this place; without one, with another than there is."""
    copied = deepcopy(document)
    *within, last = place
    at = copied
    for each in within:
        at = at[each]
    at[last] = value[0] if value else something_else(at[last])
    return copied


def without(document: Any, place: Place) -> Any:
    copied = deepcopy(document)
    *within, last = place
    at = copied
    for each in within:
        at = at[each]
    del at[last]
    return copied


def something_else(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value} " if isinstance(value, str) else [*value, 1]


def spelled(place: Sequence[str | int]) -> str:
    return "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place).lstrip(".")


@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
@pytest.mark.parametrize("made", [receipt(), everything(), receipt(entry("naïve 💾"))], ids=["plain", "full", "odd"])
def test_a_receipt_comes_back_as_it_was(made: Receipt, key: bytes | None) -> None:
    text = text_of(made, key)
    assert receipt_of(text, "r.json", key) == made
    assert text.isascii()
    assert receipt_of(json.dumps(json.loads(text), indent=2, sort_keys=True), "r.json", key) == made
    assert json.loads(text)["digest"].partition(":")[0] == ("hmac-sha256" if key else "sha256")


def test_an_entry_is_found_by_its_name() -> None:
    assert (receipt().named("app"), receipt().named("nope")) == (entry(), None)


def test_times_are_utc_and_to_the_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    document = receipt_document(receipt(), None)
    assert (document["issued_at"], document["expires_at"]) == ("2026-11-23T03:00:00Z", "2026-11-23T04:00:00Z")
    found = receipt_of(text_of(receipt(issued_at=NOW + timedelta(microseconds=999))), "r.json", None)
    assert (found.issued_at, found.issued_at.tzinfo) == (NOW, UTC)
    india = signed_anew({**document, "issued_at": "2026-11-23T08:30:00+05:30"})
    assert receipt_of(india, "r.json", None).issued_at == NOW


def test_the_document_is_the_contracts() -> None:
    document = receipt_document(receipt(), None)
    assert document["receipt_version"] == 1
    assert {"id", "issued_at", "expires_at", "sidecar", "litestream", "databases", "digest"} <= set(document)
    (database,) = document["databases"]
    assert {
        "name", "path", "identity", "schema_version", "user_version", "foreign_key_violations", "tables", "drill",
        "rollback", "checks",
    } <= set(database)  # fmt: skip
    assert {"application_id", "page_size", "schema_digest"} <= set(database["identity"])
    assert {"position", "created_at", "artifact", "artifact_sha256", "command"} <= set(database["rollback"])
    assert database["tables"] == {"users": 100, "orders": 50}


@pytest.mark.parametrize("key", [None, KEY], ids=["unsigned", "signed"])
def test_a_receipt_that_was_altered_anywhere_is_refused(key: bytes | None) -> None:
    document = receipt_document(everything(), key)
    places = [each for each in leaves(document) if each not in {("receipt_version",), ("digest",)}]
    assert len(places) > 100
    for place in places:
        said = refusal(json.dumps(changed(document, place)), key)
        assert "it was altered" in said, place
        assert "it was altered" in refusal(json.dumps(without(document, place)), key), place


def test_what_is_added_or_put_in_another_order_is_an_alteration_too() -> None:
    document = receipt_document(everything(), None)
    assert "it was altered" in refusal(json.dumps({**document, "later": 1}))
    turned = {**document, "databases": document["databases"][::-1]}
    assert "it was altered" in refusal(json.dumps(turned))


def test_unknown_fields_of_a_later_sidecar_are_ignored_where_the_digest_covers_them() -> None:
    document = receipt_document(receipt(), None)
    document["later"] = {"a": [1]}
    document["databases"][0]["rollback"]["later"] = 7
    assert receipt_of(signed_anew(document), "r.json", None) == receipt()


UNTRUSTED: list[tuple[str, Any, bytes | None, str]] = [
    ("signed, no key", lambda: text_of(receipt(), KEY), None, "is signed, and there is no key to check it with"),
    ("not signed, a key", lambda: text_of(receipt()), KEY, "is not signed, and a key file is given"),
    ("wrong key", lambda: text_of(receipt(), KEY), b"another key of 16", "signed with another key"),
    ("no digest", lambda: json.dumps(without(receipt_document(receipt(), None), ("digest",))), None, "it was altered"),
    ("no digest, a key", lambda: json.dumps(without(receipt_document(receipt(), KEY), ("digest",))), KEY, "not signed"),
    ("digest is a number", lambda: json.dumps({**receipt_document(receipt(), None), "digest": 7}), None, "altered"),
    ("digest is half a character", lambda: json.dumps({**receipt_document(receipt(), None), "digest": "\ud800"}), None, "alt"),
    ("digest in no ASCII", lambda: json.dumps({**receipt_document(receipt(), None), "digest": "ü"}), None, "altered"),
    (  # who holds no key takes the signature off
        "downgraded", lambda: signed_anew(receipt_document(receipt(), KEY)), KEY, "is not signed",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "key", "says"), UNTRUSTED, ids=[name for name, *_ in UNTRUSTED])
def test_a_receipt_that_cannot_be_trusted_is_refused(
    name: str, make: Callable[[], str], key: bytes | None, says: str
) -> None:
    assert says in refusal(make(), key), name


DEEP = '{"receipt_version": 1, "x": ' + "[" * 60_000
NO_RECEIPTS: list[tuple[str, str, str]] = [
    ("empty", "", "is no receipt: it is not JSON"),
    ("not JSON", "PASSED", "is no receipt: it is not JSON"),
    ("deep", DEEP, "is no receipt: it is not JSON"),
    ("deep and whole", DEEP + "]" * 60_000 + "}", "is no receipt: it is not JSON"),
    ("huge number", '{"receipt_version": ' + "9" * 5000 + "}", "is no receipt: it is not JSON"),
    ("a list", "[1]", "is no receipt"),
    ("a text", '"receipt_version"', "is no receipt"),
    ("another document", '{"ready": true}', "is no receipt"),
    ("a later version", '{"receipt_version": 2}', "is a receipt of version 2, this sidecar reads 1"),
    ("version in words", '{"receipt_version": "' + "x" * 999 + '"}', "is a receipt of version 'xxxxxxxxxxxxxxxxxxx,"),
    ("no version", '{"receipt_version": null}', "is a receipt of version None"),
    ("NaN", '{"receipt_version": NaN}', "is a receipt of version nan"),
]


def test_json_of_any_depth_is_refused_and_breaks_nothing() -> None:
    for depth in (500, *range(900, 1010)):
        refusal(f'{{"receipt_version": 1, "x": {"[" * depth}{"]" * depth}}}')


@pytest.mark.parametrize(("name", "text", "says"), NO_RECEIPTS, ids=[name for name, *_ in NO_RECEIPTS])
def test_what_is_no_receipt_of_ours_is_refused(name: str, text: str, says: str) -> None:
    assert says in refusal(text), name


OPTIONAL = {("override",)}  # absent reads as null


def required(document: Any) -> list[Place]:
    """Every object field of a receipt, by its place; what `drill` and `checks` hold belongs to others."""

    def within(value: Any, place: Place) -> Iterator[Place]:
        for name, each in value.items() if isinstance(value, dict) else enumerate(value):
            at = (*place, name)
            if isinstance(name, str):
                yield at
            if isinstance(each, (dict, list)) and name not in {"drill", "checks", "tables", "groups", "rows"}:
                yield from within(each, at)

    return [each for each in within(document, ()) if each not in {("receipt_version",), ("digest",)}]


NULLABLE = {
    "override", "drill", "position", "artifact", "artifact_sha256", "size_bytes", "schema_version", "rows", "error",
    "schema_version_error", "inode", "identity",
}  # fmt: skip


def test_a_field_that_is_missing_is_named_with_its_place() -> None:
    document = receipt_document(receipt(), None)
    places = [each for each in required(document) if each[-1] not in NULLABLE]
    assert ("databases", 0, "rollback", "created_at") in places
    assert len(places) > 30
    for place in places:
        assert refusal(signed_anew(without(document, place))) == f"{spelled(place)} is missing"


def test_a_field_of_another_kind_is_named_with_its_place() -> None:
    document = receipt_document(everything(), None)
    wrongs: tuple[Any, ...] = (True, 1.5, [[]], {"a": "b"})
    for place in required(document):
        for wrong in wrongs:
            text = signed_anew(changed(document, place, wrong))
            if isinstance(wrong, dict) and place[-1] in {"drill", "identity"}:
                continue  # a drill is shown as it is; with an identity there must be all of a census
            said = refusal(text)
            assert said.startswith(spelled(place)), (place, wrong, said)


@pytest.mark.parametrize(
    ("place", "wrong", "says"),
    [
        (("databases", 0, "rollback", "created_at"), "yesterday", "must be a time such as 2026-11-23T03:00:00Z"),
        (("databases", 0, "rollback", "created_at"), "2026-11-23T03:00:00", "must name its time zone"),
        (("expires_at",), 1790000000, "must be a text"),
        (("id",), 7, "must be a text"),
        (("databases", 0, "user_version"), True, "must be a whole number"),
        (("databases", 0, "user_version"), 3.0, "must be a whole number"),
        (("databases", 0, "user_version"), "3", "must be a whole number"),
        (("databases", 0, "user_version"), float("nan"), "must be a whole number"),
        (("databases", 0, "tables"), {"users": True}, "must hold whole numbers"),
        (("databases", 0, "tables"), {"users": 1.0}, "must hold whole numbers"),
        (("databases", 0, "foreign_key_violations", "rows"), [1], "must hold texts"),
        (("databases", 0, "foreign_key_violations", "rows"), "orders 7 users 0", "must be a list"),
        (("databases", 0, "identity"), [], "must be an object"),
        (("databases", 0, "checks"), ["ok"], "[0] must be an object"),
        (("databases",), {}, "must be a list"),
        (("databases",), [7], "[0] must be an object"),
        (("override",), "because", "must be an object"),
    ],
)
def test_what_a_field_must_be_is_said(place: Place, wrong: Any, says: str) -> None:
    document = receipt_document(receipt(), None)
    said = refusal(signed_anew(changed(document, place, wrong)))
    assert said.startswith(spelled(place)), said
    assert said.endswith(says)


@pytest.mark.parametrize("odd", ["", "r1", "../../etc", "20261123T030000Z-0123abcd\n", "\ud800", "x" * 9999])
def test_an_id_that_could_name_another_place_is_refused(odd: str) -> None:
    said = refusal(signed_anew({**receipt_document(receipt(), None), "id": odd}))
    assert said.endswith("is no receipt's id") or len(odd) > 60
    assert len(said.encode()) < 100


@pytest.mark.parametrize("far", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_that_no_calendar_holds_in_utc_is_refused(far: str) -> None:
    said = refusal(signed_anew({**receipt_document(receipt(), None), "expires_at": far}))
    assert said.startswith("expires_at must be a time")


# Fields: what proofs and decisions are read with too


def fields(**document: Any) -> Fields:
    return Fields(document, "the body")


@pytest.mark.parametrize(
    ("read", "right"),
    [
        (lambda given: given.text("x"), ["", "a"]),
        (lambda given: given.number("x"), [0, -1, 10**30]),
        (lambda given: given.real("x"), [0, 1.5]),
        (lambda given: given.flag("x"), [True, False]),
        (lambda given: given.numbers("x"), [{}, {"a": 1}]),
        (lambda given: given.part("x").document, [{}, {"a": 1.5}]),
        (lambda given: given.documents("x"), [[], [{"a": 1}]]),
    ],
)
def test_fields_take_what_is_right_and_refuse_every_other_kind(read: Callable[[Fields], Any], right: list[Any]) -> None:
    for value in right:
        assert read(fields(x=value)) == value
    kinds = {type(each) for each in right}
    for wrong in (None, "text", 7, 7.5, True, ["a"], {"a": "b"}):
        if type(wrong) not in kinds and not (kinds == {int, float} and type(wrong) is int):
            with pytest.raises(ReceiptError, match=r"^the body: x") as caught:
                read(fields(x=wrong))
            assert caught.value.hint == HINT
    with pytest.raises(ReceiptError, match=r"^the body: x "):
        read(fields())


def test_what_may_be_absent_may_be_null_too_and_nothing_else() -> None:
    for given in (fields(), fields(x=None)):
        assert [
            given.text_or_none("x"), given.number_or_none("x"), given.texts_or_none("x"), given.document_at("x"),
            given.maybe("x"), given.flag_or("x", default=True), given.flag_or("x", default=False),
        ] == [None, None, None, None, None, True, False]  # fmt: skip
    nothings: tuple[Any, ...] = (0, [], {})  # nothing, but not null
    for wrong in nothings:
        with pytest.raises(ReceiptError, match="x must be a text"):
            fields(x=wrong).text_or_none("x")
        with pytest.raises(ReceiptError, match="x must be true or false"):
            fields(x=wrong).flag_or("x", default=True)
    for wrong in ("", False, *nothings[1:]):
        with pytest.raises(ReceiptError, match="x must be a whole number"):
            fields(x=wrong).number_or_none("x")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), 10**400])
def test_a_number_is_finite(wrong: float) -> None:
    with pytest.raises(ReceiptError, match=r"^the body: x must be a number$"):
        fields(x=wrong).real("x")


def test_aware_times_become_utc() -> None:
    assert fields(x="2026-11-23T08:30:00.5+05:30").time("x") == datetime(2026, 11, 23, 3, 0, 0, 500_000, UTC)
