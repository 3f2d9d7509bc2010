"""One listing serves many databases below a common prefix: counted on the wire, and never shown in place of what is newer."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest

from sidecar.adapters.clock import SystemClock
from sidecar.adapters.replica_listing import LookLister
from sidecar.adapters.replica_listing.bucket import Key, Refused, StoreFailed, TooMany
from sidecar.adapters.replica_listing.commons import KEYS_EACH, LIFE_S, POOR_MAX, Commons
from sidecar.adapters.replica_listing.flight import HANDS_MAX, Flight, Hands, TookTooLong
from sidecar.core.errors import Stopped
from sidecar.core.listed import Listed
from sidecar.core.model import Database, Position
from tests.fakes import FakeClock
from tests.litestreams import App, free_port, until
from tests.replica_stage import NEVER, Wire, command, databases, fleet, lister, of_command, settled
from tests.stores import S3

COUNT = 50


@dataclass
class Tenants:
    """Fifty databases whose replicas lie in one bucket below `fleet/`, behind a wire that counts."""

    store: S3
    wire: Wire
    databases: tuple[Database, ...]
    apps: dict[str, App]
    clock: FakeClock = field(default_factory=FakeClock)

    def look(self, who: LookLister, database: Database, holds: Position | None) -> Listed:
        return who.listed(database, holds=holds, timeout_s=60, stop=NEVER)

    def round(self, who: LookLister, held: dict[str, Position]) -> dict[str, Listed]:
        """A look at each, four at a time as the daemon does."""
        with ThreadPoolExecutor(4) as pool:
            holds = [held.get(each.path, Position.of_txid(1)) for each in self.databases]
            return dict(
                zip(
                    [each.path for each in self.databases],
                    pool.map(self.look, [who] * len(holds), self.databases, holds),
                    strict=True,
                )
            )


def newest(listed: Listed) -> Position:
    return max((each.last for each in listed.files), key=lambda each: each.index)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    home = tmp_path_factory.mktemp("fleet")
    store = S3(home / "store", free_port())
    store.start()
    store.make_bucket()
    try:
        with Wire(store.port) as wire:
            block = replace(store, port=wire.port).replica("fleet")
            with fleet(home, block, COUNT) as (databases, apps, running):
                settled(databases)
                running.stop()
                yield Tenants(store, wire, databases, apps)
    finally:
        store.stop()


@pytest.fixture
def tenants(world: Tenants) -> Tenants:
    return replace(world, clock=FakeClock())


def test_fifty_databases_are_listed_by_one_request(tenants: Tenants) -> None:
    who, before = lister(tenants.clock), tenants.wire.lists
    first = tenants.round(who, {})
    assert tenants.wire.lists - before == COUNT, "nothing is known of any yet: each by its own prefix"
    held = {path: newest(listed) for path, listed in first.items()}
    tenants.clock.go(timedelta(minutes=1))
    began, before = tenants.clock.at, tenants.wire.lists
    second = tenants.round(who, held)
    assert tenants.wire.lists - before == 1
    assert who.requests.read() == {"direct": COUNT + 1, "litestream": 0}
    for database in tenants.databases:
        assert second[database.path] == Listed(began, first[database.path].files)
    for database in tenants.databases[::10]:
        assert second[database.path].files == of_command(database)


def test_litestream_asks_ten_times_for_each(tenants: Tenants) -> None:
    before = tenants.wire.lists
    of_command(tenants.databases[0])
    assert tenants.wire.lists - before == 10


def test_a_listing_serves_a_database_once_and_for_seconds_only(tenants: Tenants) -> None:
    who = lister(tenants.clock)
    held = {path: newest(listed) for path, listed in tenants.round(who, {}).items()}
    one, two, three = tenants.databases[:3]
    began, before = tenants.clock.at, tenants.wire.lists
    tenants.look(who, one, held[one.path])
    tenants.clock.go(timedelta(seconds=LIFE_S))
    assert tenants.look(who, two, held[two.path]).read_at == began
    assert tenants.wire.lists - before == 1
    assert tenants.look(who, one, held[one.path]).read_at == tenants.clock.at, "it has been served"
    tenants.clock.go(timedelta(seconds=LIFE_S + 1))
    assert tenants.look(who, three, held[three.path]).read_at == tenants.clock.at, "too old"
    assert tenants.wire.lists - before == 3


def test_what_holds_more_than_the_shared_listing_shows_is_listed_anew(tenants: Tenants) -> None:
    """The listing began, then somebody wrote: for that database it is not taken."""
    who = lister(tenants.clock)
    held = {path: newest(listed) for path, listed in tenants.round(who, {}).items()}
    one, other = tenants.databases[:2]
    tenants.look(who, one, held[one.path])
    tenants.clock.go(timedelta(seconds=5))
    name = f"fleet/{Path(other.path).name}/0000/{held[other.path].index + 1:016x}-{held[other.path].index + 1:016x}.ltx"
    (tenants.store.root / name).write_bytes(b"x" * 200)
    try:
        ahead = Position.of_txid(held[other.path].index + 1)
        until(lambda: any(each.last == ahead for each in of_command(other)), say="the server sees the new object")
        listed = tenants.look(who, other, ahead)
        assert (listed.read_at, newest(listed)) == (tenants.clock.at, ahead)
    finally:
        (tenants.store.root / name).unlink()


def test_who_does_not_know_what_production_holds_gets_a_listing_that_begins_now(tenants: Tenants) -> None:
    who = lister(tenants.clock)
    held = {path: newest(listed) for path, listed in tenants.round(who, {}).items()}
    one, other = tenants.databases[:2]
    tenants.look(who, one, held[one.path])
    tenants.clock.go(timedelta(seconds=1))
    assert tenants.look(who, other, None).read_at == tenants.clock.at


def test_no_look_goes_back_behind_the_one_before(tenants: Tenants) -> None:
    who = lister(tenants.clock)
    held = {path: newest(listed) for path, listed in tenants.round(who, {}).items()}
    one, other = tenants.databases[:2]
    tenants.look(who, one, held[one.path])
    tenants.clock.go(timedelta(seconds=3))
    tenants.look(who, other, None)
    assert tenants.look(who, other, held[other.path]).read_at == tenants.clock.at


def test_others_objects_below_the_prefix_are_not_read_for_long(tenants: Tenants) -> None:
    """The shared listing is given up after its share of pages, and not tried again."""
    few = replace(tenants, databases=tenants.databases[:8])
    pages_max = len(few.databases) * KEYS_EACH // 1000
    crowd = tenants.store.root / "fleet" / "aaa"
    crowd.mkdir()
    try:
        for number in range((pages_max + 2) * 1000):
            (crowd / f"{number:06d}").touch()
        who = lister(tenants.clock)
        first = few.round(who, {})
        held = {path: newest(listed) for path, listed in first.items()}
        asked = []
        for _ in range(3):
            tenants.clock.go(timedelta(minutes=1))
            before = tenants.wire.lists
            assert {path: seen.files for path, seen in few.round(who, held).items()} == {
                path: seen.files for path, seen in first.items()
            }
            asked.append(tenants.wire.lists - before)
        assert asked == [len(held) + pages_max, len(held), len(held)]
        assert who.requests.read()["litestream"] == 0
    finally:
        shutil.rmtree(crowd)


def test_a_database_whose_replica_goes_is_missed_at_the_next_look(tenants: Tenants) -> None:
    who = lister(tenants.clock)
    held = {path: newest(listed) for path, listed in tenants.round(who, {}).items()}
    one, gone = tenants.databases[0], tenants.databases[-1]
    folder = tenants.store.root / "fleet" / Path(gone.path).name
    folder.rename(tenants.store.folder / "away")
    try:
        tenants.look(who, one, held[one.path])
        assert tenants.look(who, gone, held[gone.path]).files == ()
        assert who.requests.read()["litestream"] == 10, "Litestream has confirmed it"
    finally:
        (tenants.store.folder / "away").rename(folder)


def test_a_store_that_hangs_fails_the_shared_listing_for_all_who_wait(tenants: Tenants) -> None:
    who = LookLister(command(), SystemClock(), {})
    held = {path: newest(listed) for path, listed in tenants.round(who, {}).items()}
    tenants.store.pause()
    threading.Timer(4.0, tenants.store.resume).start()
    try:
        seen = [who.listed(each, holds=held[each.path], timeout_s=8, stop=NEVER) for each in tenants.databases[:2]]
    finally:
        tenants.store.resume()
    assert [each.files for each in seen] == [of_command(each) for each in tenants.databases[:2]]
    assert who.requests.read()["litestream"] == 20, "by Litestream, which had more patience"


# A store that allows each its own prefix only


class Guarded(BaseHTTPRequestHandler):
    """Lists `f/a` and `f/b`, and answers as AWS does to a policy with a condition on `s3:prefix` where more is asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        (prefix,) = parse_qs(urlsplit(self.path).query)["prefix"]
        self.asked.append(prefix)
        allowed = prefix in {"f/a/", "f/b/"}
        body = (LISTING.format(key=f"{prefix}0009/{1:016x}-{2:016x}.ltx") if allowed else DENIED).encode()
        self.send_response(200 if allowed else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


DENIED = "<Error><Code>AccessDenied</Code><Message>no identity-based policy allows the s3:ListBucket action</Message></Error>"
LISTING = (
    '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated>'
    "<Contents><Key>{key}</Key><LastModified>2026-11-23T03:00:00.000Z</LastModified><ETag>x</ETag><Size>100</Size></Contents>"
    "</ListBucketResult>"
)


def test_where_only_each_ones_own_prefix_is_allowed_each_is_listed_alone(tmp_path: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Guarded)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clock = FakeClock()
    who = lister(clock, executable=str(Path(__file__).resolve().parent.parent / "stubs" / "hang"))
    store = S3(tmp_path, server.server_address[1])
    found = [replace(databases(tmp_path, store.replica(f"f/{each}"))[0], path=f"/{each}.db") for each in "ab"]
    try:
        for expected in (["f/a/", "f/b/"], ["f/", "f/a/", "f/b/"], ["f/a/", "f/b/"], ["f/a/", "f/b/"]):
            clock.go(timedelta(minutes=1))
            Guarded.asked.clear()
            for each in found:
                assert who.listed(each, holds=Position.of_txid(2), timeout_s=60, stop=NEVER).files
            assert Guarded.asked == expected
    finally:
        server.shutdown()
        server.server_close()


# What is shared, without a store


@dataclass
class Pages:
    """A bucket that shows these keys, or fails; writes down what it was asked."""

    keys_of: list[Key]
    fails: Exception | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    def keys(self, path: str, pages_max: int) -> list[Key]:
        self.asked.append((path, pages_max))
        if self.fails is not None:
            raise self.fails
        start = f"{path}/" if path else ""
        return [
            replace(each, name=each.name.removeprefix(start)) for each in self.keys_of if each.name.startswith(start)
        ]


def key(path: str, level: str = "0009") -> Key:
    return Key(f"{path}/{level}/0000000000000001-0000000000000002.ltx", 100, FakeClock().at)


@dataclass
class Shared:
    """What databases at these paths share."""

    paths: tuple[str, ...]
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.pages = Pages([key(each) for each in self.paths])
        self.commons = Commons(self.pages, Hands(), self.clock)  # type: ignore[arg-type] # by shape
        for each in self.paths:
            assert self.ask(each, may_begin=False) is None

    def ask(self, path: str, *, may_begin: bool = True) -> Listed | None:
        return self.commons.listed(path, Position.of_txid(2), may_begin=may_begin, timeout_s=5, stop=NEVER)


@pytest.mark.parametrize(
    ("paths", "above"),
    [
        (("fleet/a", "fleet/b", "fleet/c"), "fleet"),
        (("prod/t/1/app", "prod/t/2/app", "prod/t/3/app"), "prod/t"),
        (("t/1/app", "t/1/log", "t/2/app"), "t"),
        (("a", "b"), ""),
        (("x/a", "x/b", "y/a"), ""),
        (("a/b", "a/b/c"), "a"),
    ],
)
def test_the_prefix_that_most_lie_below_is_listed_and_of_several_the_closest(
    paths: tuple[str, ...], above: str
) -> None:
    shared = Shared(paths)
    assert [shared.ask(each) is not None for each in paths] == [True] * len(paths)
    assert [path for path, _ in shared.pages.asked] == [above]


def test_alone_nothing_is_shared() -> None:
    shared = Shared(("fleet/a",))
    assert shared.ask("fleet/a") is None
    assert shared.pages.asked == []


def test_a_key_belongs_to_the_replica_it_lies_in() -> None:
    shared = Shared(("f/a", "f/a/0000/b", "f/ab"))
    shared.pages.keys_of = [key("f/a", "0001"), key("f/a/0000/b"), key("f/ab", "0002"), key("f/other")]
    seen = {each: shared.ask(each) for each in shared.paths}
    assert [[file.level for file in listed.files] for listed in seen.values() if listed is not None] == [[1], [9], [2]]


@pytest.mark.parametrize("fails", [TooMany(), Refused()])
def test_a_prefix_that_may_not_or_cannot_be_listed_rests_for_an_hour(fails: Exception) -> None:
    shared = Shared(("f/a", "f/b"))
    shared.pages.fails = fails
    for _ in range(5):
        assert shared.ask("f/a") is None
    assert [path for path, _ in shared.pages.asked] == ["f"], "and what lies above is not tried"
    shared.clock.go(timedelta(minutes=61))
    shared.pages.fails = None
    for each in shared.paths:
        shared.ask(each)
    assert shared.pages.asked[-1][0] == "f"


def test_a_store_that_fails_is_told_to_whoever_waits() -> None:
    shared = Shared(("f/a", "f/b"))
    shared.pages.fails = StoreFailed()
    with pytest.raises(StoreFailed):
        shared.ask("f/a")


def test_a_listing_that_serves_too_few_is_given_up() -> None:
    shared = Shared(tuple(f"f/{each}" for each in range(10)))
    asked = []
    for _ in range(POOR_MAX + 3):
        shared.ask("f/1")
        asked.append(len([path for path, _ in shared.pages.asked if path == "f"]))
        shared.clock.go(timedelta(seconds=60))
    assert asked == [1, 2, 3, 3, 3, 3]


def test_the_more_replicas_the_more_pages() -> None:
    for count, pages in ((2, 1), (10, 5), (1000, 500)):
        shared = Shared(tuple(f"f/{each}" for each in range(count)))
        shared.ask("f/1")
        assert shared.pages.asked == [("f", pages)]


def test_hands_that_all_hang_are_not_waited_for() -> None:
    hands, stuck, done = Hands(), threading.Event(), threading.Event()
    try:
        for _ in range(HANDS_MAX):
            hands.do(stuck.wait)  # type: ignore[arg-type] # what it returns is not looked at
        with pytest.raises(TookTooLong):
            hands.do(done.set)
    finally:
        stuck.set()
    until(lambda: free_again(hands, done), say="hands are free again")
    assert done.wait(5)


def free_again(hands: Hands, done: threading.Event) -> bool:
    try:
        hands.do(done.set)
    except TookTooLong:
        return False
    return True


def test_work_that_hangs_is_waited_for_as_long_as_told_and_no_longer() -> None:
    stuck = threading.Event()
    flight = Flight(Hands(), lambda: stuck.wait(30), SystemClock().monotonic)
    try:
        with pytest.raises(TookTooLong):
            flight.wait(0.2, NEVER)
        stop = threading.Event()
        stop.set()
        with pytest.raises(Stopped):
            flight.wait(30, stop)
    finally:
        stuck.set()
    assert flight.wait(5, NEVER) is True
