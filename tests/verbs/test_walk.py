"""A walk of the road to a proof: what is done in which order, what stops it, and what it brings back."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from sidecar.adapters.replica_listing import LookLister
from sidecar.adapters.shelf import Shelf
from sidecar.core.decision import Kind, Word
from sidecar.core.errors import EnvironmentProblem, LitestreamError, Overdue, ReceiptError, Stopped, Unreadable
from sidecar.core.finding import Reason, Status
from sidecar.core.model import Claim, ClaimSource, Position, ReplicaFile
from sidecar.core.policy import Policy
from sidecar.core.proof import Demand, Proof
from sidecar.deploy.road import LocalRoad, NoSuchDatabase
from sidecar.deploy.walk import OPEN_S, SYNC_S
from sidecar.deploy.works import Works
from sidecar.drill import Driller
from sidecar.fleet import Fleet
from sidecar.look import Looker
from sidecar.parity import Comparer
from sidecar.production import Examiner
from tests.core.evidences import NOW, claim, database, drill, healthy, live, unknown
from tests.core.receipts import RECEIPT_ID, decision
from tests.fakes import FakeClock
from tests.road_fakes import FakeClaims, FakeSyncer, FakeWriters, SteppingEvent, WalkLedger
from tests.verb_fakes import FakeIntegrity, FakeLive, FakeProduction, FakeReplica, FakeScratch, Step, slow

PATH = "/data/app.db"
COPY = b"x" * 40960  # what the stand-ins restore and copy
WHOLE_WAY = ["sync", "list", "restore", "check", "copy", "check", "census"]
OVER = timedelta(hours=2)


@dataclass
class Book:
    """What was written, in memory."""

    taken: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)

    def take(self, receipt_id: str) -> None:
        if receipt_id in self.taken:
            raise ReceiptError("used")
        self.taken.append(receipt_id)

    def write(self, made: Any) -> None:
        self.words.append(made.word)


class Scene:
    """A road over stand-ins, a real shelf, and a healthy database; `did` lists the work in its order."""

    def __init__(self, folder: Path) -> None:
        self.did: list[str] = []
        self.clock = FakeClock(NOW)
        self.stop: Event = SteppingEvent(self.clock)
        self.replica, self.integrity, self.scratch = FakeReplica(), FakeIntegrity(), FakeScratch()
        self.production, self.live = FakeProduction(), FakeLive(self.clock)
        self.ledger = WalkLedger({PATH: healthy()})
        self.claims, self.syncer, self.writers = FakeClaims(self.clock, claim()), FakeSyncer(), FakeWriters()
        self.shelf = Shelf(folder / "keep", 3, 10**9)
        self.policy, self.book = Policy(parity=False), Book()
        self.socket = True
        self.comparer: Comparer | None = None  # with production, page by page
        for name, steps in (
            ("sync", self.syncer.steps), ("list", self.replica.listings), ("restore", self.replica.restores),
            ("copy", self.production.copies), ("census", self.integrity.censuses),
        ):  # fmt: skip
            steps.append(self._doing(name))
        self.integrity.checks += [self._doing("check"), self._doing("check")]

    def _doing(self, name: str, then: Step = None) -> Step:
        def step() -> None:
            self.did.append(name)
            if isinstance(then, Exception):
                raise then
            if then is not None:
                then()

        return step

    def happens(self, steps: list[Step], name: str, what: Step) -> None:
        """Let this happen when its turn comes."""
        steps[0] = self._doing(name, what)

    @property
    def road(self) -> LocalRoad:
        looker = Looker(self.live, LookLister(self.replica, self.clock, {}), self.production, self.clock)
        works = Works(
            claims=lambda _: self.claims, syncer=lambda _: self.syncer if self.socket else None, looker=looker,
            driller=Driller(self.replica, self.live, self.integrity, self.scratch, self.clock, self.comparer),
            examiner=Examiner(self.production, self.integrity, self.scratch, self.clock, "3.51.0"),
            integrity=self.integrity, scratch=self.scratch, ledger=self.ledger, shelf=self.shelf, writers=self.writers,
            clock=self.clock,
        )  # fmt: skip
        fleet = Fleet({PATH: database()}, {PATH: self.policy}, 60.0, None, None, (), rescan=False, folders=())
        return LocalRoad(lambda: fleet, works, self.book)

    def walk(self, **demand: Any) -> Proof:
        asked = Demand(**{"name": "app", "receipt_id": RECEIPT_ID, "keep": True, **demand})
        return self.road.prove(asked, stop=self.stop, progress=lambda *_: None)

    @property
    def kept(self) -> list[str]:
        return (
            sorted(each.name for each in self.shelf.directory.glob("*/*.artifact"))
            if self.shelf.directory.exists()
            else []
        )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def check(proof: Proof, name: str) -> tuple[str, str | None, str]:
    (found,) = [each for each in proof.entry.checks if each["name"] == name]
    return found["status"], found["reason"], found["message"]


def test_a_healthy_database_is_synced_listed_restored_copied_and_counted_in_that_order(scene: Scene) -> None:
    proof = scene.walk()
    assert (proof.ready, proof.conclusive, proof.reason) == (True, False, "app can be restored")
    assert scene.did == WHOLE_WAY
    assert (proof.name, proof.since, proof.litestream, proof.max_shrink) == ("app", NOW, "0.5.17", 0.5)
    assert proof.database["ready"] is True
    entry = proof.entry
    assert (entry.name, entry.path) == ("app", PATH)
    assert entry.census is not None
    assert (entry.census.inode, entry.census.content.read_at) == (1001, NOW), "of production's file, not of the copy"
    assert entry.drill is not None
    assert (entry.drill["id"], entry.drill["position"]) == ("d1", "000000000000002a")
    assert entry.drill == proof.database["last_drill"]
    assert {each["status"] for each in entry.checks} <= {"pass", "warn"}
    assert scene.scratch.empty


def test_the_drilled_copy_is_kept_settled_and_named_by_its_hash(scene: Scene) -> None:
    rollback = scene.walk().entry.rollback
    assert rollback.artifact == str(scene.shelf.directory / RECEIPT_ID / "app-d1.artifact")
    assert Path(rollback.artifact).stat().st_mode & 0o777 == 0o400
    assert rollback.artifact_sha256 == hashlib.sha256(COPY).hexdigest()
    assert (rollback.size_bytes, rollback.position, rollback.command) == (len(COPY), "000000000000002a", "")
    assert rollback.created_at == NOW
    assert scene.kept == ["app-d1.artifact"]


def test_without_keep_nothing_is_kept_and_the_position_is_named(scene: Scene) -> None:
    rollback = scene.walk(keep=False).entry.rollback
    assert (rollback.artifact, rollback.artifact_sha256, rollback.size_bytes) == (None, None, None)
    assert (rollback.position, scene.kept) == ("000000000000002a", [])


def test_what_was_learnt_stands_in_the_evidence_of_ready(scene: Scene) -> None:
    scene.ledger.evidence[PATH] = unknown(NOW)
    scene.walk()
    known = scene.ledger.evidence[PATH]
    assert known.last_passed is not None
    assert known.database_check is not None
    assert (known.last_passed.id, known.database_check.sound, known.covered_at) == ("d1", True, NOW)
    assert known.claim is not None
    assert known.content is not None
    assert set(known.content.tables.values()) == {-1}, "as a look reads it: rows are not counted there"


# Litestream is asked to sync


def test_a_sync_that_fails_is_told_and_may_come_right(scene: Scene) -> None:
    scene.happens(
        scene.syncer.steps, "sync", LitestreamError("stalled", "Litestream cannot sync: disk full", "free some")
    )
    proof = scene.walk()
    assert check(proof, "lag") == ("fail", "stalled", "Litestream cannot sync: disk full")
    assert (proof.ready, proof.retryable, proof.conclusive) == (False, True, True)
    assert proof.hint == "free some"
    assert scene.did == ["sync", "list"], "nothing is restored of what is not there"


@pytest.mark.parametrize("reason", ["unreachable", "timeout"])
def test_a_sync_that_could_not_be_asked_for_is_no_proof_of_anything(scene: Scene, reason: str) -> None:
    scene.happens(scene.syncer.steps, "sync", LitestreamError(reason, "no answer", "look"))
    proof = scene.walk()
    assert check(proof, "lag") == ("unknown", "stalled", "no answer")
    assert (proof.ready, proof.retryable, proof.conclusive) == (False, True, False)


NOT_ASKED: list[tuple[str, Callable[[Scene], object], dict[str, Any]]] = [
    ("no socket", lambda scene: setattr(scene, "socket", False), {}),
    ("a young proof is enough", lambda _: None, {"max_age": timedelta(minutes=10)}),
    ("another knows it", lambda scene: setattr(scene.claims, "said", claim(managed=False)), {}),
    ("down", lambda scene: setattr(scene.claims, "said", claim(up=False)), {}),
]


@pytest.mark.parametrize(("name", "arrange", "demand"), NOT_ASKED, ids=[name for name, *_ in NOT_ASKED])
def test_litestream_is_asked_to_sync_only_where_it_can_help(
    scene: Scene, name: str, arrange: Callable[[Scene], object], demand: dict[str, Any]
) -> None:
    arrange(scene)
    scene.walk(**demand)
    assert scene.syncer.timeouts == [], name
    assert "list" in scene.did


def test_the_sync_has_half_a_minute_or_what_is_left(scene: Scene) -> None:
    scene.walk()
    scene.walk(timeout=timedelta(seconds=7))
    assert scene.syncer.timeouts == [SYNC_S, 7.0]


# What stops a walk before anything is restored


def _listing(scene: Scene, reason: str) -> None:
    scene.happens(scene.replica.listings, "list", LitestreamError(reason, f"the store said {reason}", "look at it"))


BLOCKED: list[tuple[str, Callable[[Scene], object], str, bool, bool]] = [  # (name, fault, check, retryable, conclusive)
    ("unreachable", lambda scene: _listing(scene, "unreachable"), "replica", True, False),
    ("auth", lambda scene: _listing(scene, "auth"), "replica", False, False),
    ("no backup", lambda scene: setattr(scene.replica, "files", ()), "replica", False, True),
    ("down", lambda scene: setattr(scene.claims, "said", claim(up=False)), "litestream", True, True),
    (
        "a gap",
        lambda scene: setattr(
            scene.replica, "files",
            (
                ReplicaFile(9, Position.of_txid(1), Position.of_txid(40), 5000, NOW),
                ReplicaFile(0, Position.of_txid(42), Position.of_txid(42), 500, NOW),
            ),
        ),
        "chain", False, True,
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arrange", "is_about", "retryable", "conclusive"), BLOCKED, ids=[name for name, *_ in BLOCKED]
)
def test_nothing_is_restored_where_it_is_known_to_be_in_vain(
    scene: Scene, name: str, arrange: Callable[[Scene], object], is_about: str, *, retryable: bool, conclusive: bool
) -> None:
    arrange(scene)
    proof = scene.walk()
    assert check(proof, is_about)[0] in {"fail", "unknown"}, name
    assert not {"restore", "copy"} & set(scene.did)
    assert (proof.ready, proof.entry.census, scene.kept) == (False, None, [])
    assert proof.reason.startswith("app: ")
    assert (proof.retryable, proof.conclusive) == (retryable, conclusive), proof.entry.checks


def test_commits_that_are_not_covered_yet_are_waited_for_before_a_restore(scene: Scene) -> None:
    scene.clock.go(timedelta(seconds=20))
    now = scene.clock.now()
    scene.live.states = [live(now, txid=43, frames=4, modified_at=now)]  # the replica shows 42
    proof = scene.walk()
    assert check(proof, "lag") == (
        "unknown", "lagging", "commits up to 03:00:20 UTC have not all been seen in the replica yet",
    )  # fmt: skip
    assert (proof.ready, proof.retryable, proof.conclusive) == (False, True, False)
    assert scene.did == ["sync", "list"]


def test_what_was_committed_after_the_first_try_need_not_be_covered(scene: Scene) -> None:
    """A busy database is never covered up to now; up to when the gate was asked it is, before long."""
    scene.clock.go(timedelta(seconds=20))
    now = scene.clock.now()
    scene.live.states = [live(now, txid=43, frames=4, modified_at=now)]
    assert not scene.walk(since=NOW + timedelta(seconds=10)).ready
    scene.did.clear()
    assert scene.walk(since=NOW).ready, "covered up to NOW, by what was known before"


def test_a_file_that_was_replaced_is_not_proved_by_a_backup_of_the_one_before(scene: Scene) -> None:
    scene.ledger.evidence[PATH] = replace(healthy(), replaced_at=NOW, replaced_after=NOW)
    scene.live.states = [live(captures=())]
    proof = scene.walk()
    assert (proof.ready, scene.did) == (False, ["sync", "list"])
    assert "file_replaced" in {each["reason"] for each in proof.entry.checks}


def test_what_the_checks_prove_stands_before_what_the_sync_could_not_find_out(scene: Scene) -> None:
    scene.clock.go(timedelta(minutes=10))
    now = scene.clock.now()
    scene.live.states = [live(now, txid=43, frames=4, modified_at=now - timedelta(minutes=9))]
    scene.happens(scene.syncer.steps, "sync", LitestreamError("unreachable", "no answer", "look"))
    assert check(scene.walk(), "lag")[:2] == ("fail", "lagging")


# The drill


@pytest.mark.parametrize(
    ("error", "status", "conclusive", "retryable"),
    [
        (LitestreamError("file_corrupt", "page 3", "start over"), "fail", True, False),
        (LitestreamError("raced", "a file went", "again"), "unknown", False, True),
        (Overdue("too slow", "wait"), "unknown", False, True),
        (OSError(28, "No space left on device"), "unknown", False, False),
    ],
)
def test_a_drill_that_does_not_pass_leaves_production_alone(
    scene: Scene, error: Exception, status: str, *, conclusive: bool, retryable: bool
) -> None:
    scene.replica.restores[:] = [error, error]
    proof = scene.walk()
    assert check(proof, "drill")[0] == status
    assert (proof.ready, proof.conclusive, proof.retryable) == (False, conclusive, retryable)
    assert "copy" not in scene.did
    assert (proof.entry.census, scene.kept, scene.scratch.empty) == (None, [], True)
    assert proof.entry.drill is not None
    assert proof.entry.drill["id"] == "d1", "the drill that was asked for, not the older one that passed"


def test_a_drill_that_brings_back_less_than_the_listing_showed_is_no_proof(scene: Scene) -> None:
    scene.replica.files = (ReplicaFile(9, Position.of_txid(1), Position.of_txid(43), 5000, NOW),)
    scene.live.states = [live(txid=43)]
    proof = scene.walk()
    assert check(proof, "drill") == (
        "unknown", "raced", "the drill restored 000000000000002a, the replica had shown 000000000000002b before",
    )  # fmt: skip
    assert (proof.ready, proof.retryable, proof.conclusive, "copy" in scene.did) == (False, True, False, False)


def test_a_young_proof_is_taken_and_production_s_copy_kept_instead(scene: Scene) -> None:
    scene.ledger.evidence[PATH] = healthy(NOW).after_drill(drill(NOW - timedelta(minutes=9)))
    proof = scene.walk(max_age=timedelta(minutes=10))
    assert proof.ready, proof.reason
    assert scene.did == ["list", "copy", "check", "census"]
    rollback = proof.entry.rollback
    assert rollback.artifact == str(scene.shelf.directory / RECEIPT_ID / "app-production.artifact")
    assert (rollback.position, rollback.artifact_sha256) == (None, hashlib.sha256(COPY).hexdigest())
    assert Path(rollback.artifact).stat().st_mode & 0o777 == 0o400
    assert proof.entry.drill is not None
    assert proof.entry.drill["id"] == "d0"


@pytest.mark.parametrize(("restored_ago", "restores"), [(9, False), (11, True)])
def test_a_drill_by_change_is_no_restore(scene: Scene, restored_ago: int, *, restores: bool) -> None:
    """Whoever asks for a proof that young asks for a restore; where one is young enough, it stands in the receipt."""
    scene.policy = Policy(parity=False, drill_by_change_from=1)
    whole = drill(NOW - timedelta(minutes=restored_ago), id="whole")
    news = drill(NOW - timedelta(minutes=1), id="news", by_change=True, restore_seconds=None)
    scene.ledger.evidence[PATH] = healthy(NOW).after_drill(whole).after_drill(news)
    proof = scene.walk(max_age=timedelta(minutes=10))
    assert proof.ready, proof.reason
    assert ("restore" in scene.did) is restores
    assert proof.entry.drill is not None
    assert proof.entry.drill["id"] == ("d1" if restores else "whole")


def test_a_proof_that_is_too_old_is_made_anew(scene: Scene) -> None:
    scene.clock.go(timedelta(minutes=11))
    proof = scene.walk(max_age=timedelta(minutes=10))
    assert "restore" in scene.did
    assert (proof.ready, scene.kept) == (True, ["app-d1.artifact"])


@pytest.mark.parametrize(("accept", "limit"), [(False, 0.5), (True, 1.0)])
def test_what_was_meant_to_shrink_becomes_the_new_measure(scene: Scene, *, accept: bool, limit: float) -> None:
    scene.walk(accept_shrink=accept, keep=False)
    assert scene.ledger.shrinks == [limit]


def test_all_of_it_keeps_to_the_time_that_was_given(scene: Scene) -> None:
    scene.happens(scene.syncer.steps, "sync", slow(scene.clock, 4))
    scene.walk(timeout=timedelta(seconds=10))
    assert max(scene.replica.timeouts) <= 6
    late = slow(scene.clock, 999)
    scene.replica.restores[:] = [late]
    proof = scene.walk(timeout=timedelta(seconds=10))
    assert check(proof, "drill")[:2] == ("unknown", "timeout")
    assert not proof.ready


# The shelf


def test_a_proof_that_is_too_old_and_cannot_be_made_anew_is_told_to_be_so(scene: Scene) -> None:
    scene.shelf = Shelf(scene.shelf.directory, 3, 100)
    scene.clock.go(timedelta(minutes=11))
    proof = scene.walk(max_age=timedelta(minutes=10))
    assert (check(proof, "drill")[:2], check(proof, "scratch")[0]) == (("fail", "drill_old"), "unknown")


def test_without_room_on_the_shelf_nothing_is_restored(scene: Scene) -> None:
    scene.shelf = Shelf(scene.shelf.directory, 3, 100)
    proof = scene.walk()
    status, reason, message = check(proof, "scratch")
    assert (status, reason) == ("unknown", "scratch_low")
    assert message.startswith("there is no room for the rollback artifact: it needs ")
    assert (proof.ready, proof.retryable, proof.conclusive, scene.did) == (False, False, False, ["sync", "list"])


def test_a_shelf_that_cannot_be_used_is_said(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    scene.shelf = Shelf(tmp_path / "file" / "keep", 3, 10**9)
    assert "rollback artifacts cannot be kept" in check(scene.walk(), "scratch")[2]


def test_without_room_for_productions_copy_there_is_no_way_back(scene: Scene) -> None:
    scene.shelf = Shelf(scene.shelf.directory, 3, 100)
    proof = scene.walk(max_age=timedelta(hours=1))
    assert check(proof, "scratch")[0] == "unknown"
    assert (proof.ready, proof.entry.rollback.artifact) == (False, None)


class BrokenShelf(Shelf):
    """A disk that fails as the copy is settled."""

    def settle(self, copy: Path) -> str:
        raise EnvironmentProblem(f"{copy.name}: Input/output error", "look at the disk")


def test_a_copy_that_cannot_be_settled_is_no_artifact(scene: Scene) -> None:
    scene.shelf = BrokenShelf(scene.shelf.directory, 3, 10**9)
    proof = scene.walk()
    assert (proof.ready, proof.entry.rollback.artifact) == (False, None)
    assert check(proof, "scratch")[2].endswith("Input/output error")


# Production


def test_production_that_is_damaged_stops_the_gate_after_the_backup_was_proved(scene: Scene) -> None:
    scene.integrity.checks[1] = lambda: setattr(scene.integrity, "complaints", ["row 3 missing"])
    proof = scene.walk()
    assert check(proof, "database")[:2] == ("fail", "db_corrupt")
    assert (proof.ready, proof.conclusive, proof.retryable, proof.entry.census) == (False, True, False, None)


def test_production_that_cannot_be_read_is_not_known(scene: Scene) -> None:
    scene.happens(scene.production.copies, "copy", Unreadable("not the app's user", "run as it"))
    proof = scene.walk()
    assert check(proof, "database") == ("unknown", "unreadable", "production could not be checked: not the app's user")
    assert (proof.ready, proof.conclusive, proof.retryable) == (False, False, False)
    assert scene.ledger.evidence[PATH].database_found is not None, "an older check passed, and is no census"


def test_a_census_that_cannot_be_taken_is_no_baseline(scene: Scene) -> None:
    scene.happens(scene.integrity.censuses, "census", Overdue("the census took too long", "wait longer"))
    proof = scene.walk()
    assert check(proof, "schema") == ("unknown", "version_unknown", "the census took too long")
    assert (proof.ready, proof.entry.census) == (False, None)


def test_the_census_is_dated_before_the_copy_began(scene: Scene) -> None:
    """What was committed while it was copied may or may not be in it."""
    scene.happens(scene.production.copies, "copy", slow(scene.clock, 5))
    proof = scene.walk()
    assert proof.entry.census is not None
    assert (proof.entry.census.content.read_at, scene.clock.now()) == (NOW, NOW + timedelta(seconds=5))


def test_production_that_is_gone_after_a_deploy_is_told(scene: Scene) -> None:
    scene.live.states = [live(file_id=None)]
    scene.happens(scene.production.copies, "copy", Unreadable("no such file", "look"))
    proof = scene.walk(backup=False, keep=False)
    assert check(proof, "database") == ("fail", "unreadable", "there is no database file at its path")
    assert (proof.ready, proof.conclusive) == (False, True)


def test_only_production_is_asked_about_after_a_deploy(scene: Scene) -> None:
    scene.claims.said = claim(up=False)
    proof = scene.walk(backup=False, keep=False)
    assert scene.did == ["copy", "check", "census"]
    assert [each["name"] for each in proof.entry.checks] == ["database"]
    assert (proof.ready, proof.entry.drill) == (True, None)
    assert proof.entry.census is not None


def test_only_the_backup_is_asked_about_once_production_is_good(scene: Scene) -> None:
    proof = scene.walk(production=False, keep=False)
    assert scene.did == ["sync", "list", "restore", "check"]
    assert (proof.ready, proof.entry.census) == (True, None)


def test_a_write_transaction_that_stays_open_is_waited_for_and_then_told(scene: Scene) -> None:
    scene.writers.holders = [4711]
    proof = scene.walk()
    status, reason, message = check(proof, "database")
    assert (status, reason) == ("unknown", "check_old")
    assert "process 4711 has had a write transaction open for more than 2 s" in message
    assert (proof.ready, proof.retryable, proof.conclusive) == (False, True, False)
    assert timedelta(seconds=OPEN_S) <= scene.clock.now() - NOW < timedelta(seconds=OPEN_S + 1)


@pytest.mark.parametrize("holders", [[4711, 4711, None], [4711, 4711, 4712]])
def test_a_write_transaction_that_ends_is_none_to_tell(scene: Scene, holders: list[int | None]) -> None:
    scene.writers.holders = holders
    assert scene.walk().ready
    assert scene.clock.now() - NOW < timedelta(seconds=1)


def test_a_writer_that_cannot_be_seen_is_said_to_be_so(scene: Scene) -> None:
    scene.writers.holders = [0]
    assert "a process that cannot be seen from here" in check(scene.walk(), "database")[2]


# Against all that was found


def test_an_override_goes_on_past_what_blocks_and_keeps_what_it_can(scene: Scene) -> None:
    scene.claims.said = claim(up=False)
    proof = scene.walk(anyway=True)
    assert scene.did == ["list", "restore", "check", "copy", "check", "census"]
    assert (proof.ready, scene.kept) == (False, ["app-d1.artifact"])
    assert proof.entry.census is not None


@pytest.mark.parametrize("reason", ["unreachable", "auth", "timeout"])
def test_an_override_does_not_ask_a_store_that_cannot_be_read(scene: Scene, reason: str) -> None:
    _listing(scene, reason)
    proof = scene.walk(anyway=True)
    assert scene.did == ["sync", "list", "copy", "check", "census"]
    assert (scene.kept, proof.entry.rollback.position) == (["app-production.artifact"], None)
    assert proof.entry.census is not None


def test_an_override_after_a_drill_that_failed_keeps_production_itself(scene: Scene) -> None:
    scene.happens(scene.replica.restores, "restore", LitestreamError("file_corrupt", "page 3", "start over"))
    scene.integrity.checks.pop()
    proof = scene.walk(anyway=True)
    assert scene.did == ["sync", "list", "restore", "copy", "check", "census"]
    assert (proof.ready, proof.conclusive, scene.kept) == (False, True, ["app-production.artifact"])


def test_an_override_without_room_records_the_rest(scene: Scene) -> None:
    scene.shelf = Shelf(scene.shelf.directory, 3, 100)
    proof = scene.walk(anyway=True)
    assert scene.did == WHOLE_WAY
    assert proof.entry.census is not None
    assert (proof.entry.rollback.artifact, proof.entry.rollback.position) == (None, "000000000000002a")


# Being told to stop


STOPS: list[tuple[str, Callable[[Scene], list[Step]], Exception]] = [
    ("sync", lambda scene: scene.syncer.steps, Stopped("told to stop")),
    ("list", lambda scene: scene.replica.listings, Stopped("told to stop")),
    ("restore", lambda scene: scene.replica.restores, Stopped("told to stop")),
]


@pytest.mark.parametrize(("name", "steps", "error"), STOPS, ids=[name for name, *_ in STOPS])
def test_whoever_is_told_to_stop_stops_and_leaves_nothing(
    scene: Scene, name: str, steps: Callable[[Scene], list[Step]], error: Exception
) -> None:
    scene.happens(steps(scene), name, error)
    with pytest.raises(Stopped):
        scene.walk()
    assert scene.did[-1] == name
    assert (scene.kept, scene.scratch.empty) == ([], True)


def test_a_stop_while_production_is_copied_stops_too(scene: Scene) -> None:
    scene.happens(scene.production.copies, "copy", scene.stop.set)
    with pytest.raises(Stopped):
        scene.walk(keep=False)
    scene.stop.clear()
    scene.writers.holders = [4711]
    scene.stop.set()
    with pytest.raises(Stopped):
        scene.walk(backup=False, keep=False)


# The road


def test_a_name_that_no_database_has_is_refused(scene: Scene) -> None:
    with pytest.raises(NoSuchDatabase) as caught:
        scene.walk(name="nope")
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (
        "there is no database nope", "one of: app", 2,
    )  # fmt: skip
    assert scene.road.databases() == {"app": PATH}


@pytest.mark.parametrize(
    ("kind", "word", "kept", "proved"),
    [
        (Kind.GATE, Word.PASSED, True, False),
        (Kind.GATE, Word.OVERRIDDEN, True, False),
        (Kind.GATE, Word.REFUSED, False, False),
        (Kind.GATE, Word.UNKNOWN, False, False),
        (Kind.POSTCHECK, Word.PASSED, True, True),
        (Kind.POSTCHECK, Word.REFUSED, True, False),
        (Kind.POSTCHECK, Word.UNKNOWN, True, False),
        (Kind.ROLLBACK, Word.PASSED, True, False),
    ],
)
def test_a_gate_that_did_not_pass_gives_its_copies_up_and_a_postcheck_that_did_proves_its_deploy(
    scene: Scene, kind: Kind, word: Word, *, kept: bool, proved: bool
) -> None:
    scene.walk()
    road = scene.road
    road.take(RECEIPT_ID)
    road.decided(decision(word, kind))
    folder = scene.shelf.directory / RECEIPT_ID
    assert (bool(scene.kept), (folder / "deploy-proved-good").exists()) == (kept, proved)
    assert scene.book.words == [word], "written once"
    with pytest.raises(ReceiptError):
        road.take(RECEIPT_ID)


def test_claims_that_say_nothing_are_no_claims(scene: Scene) -> None:
    scene.claims.said = None
    scene.ledger.evidence[PATH] = replace(healthy(), claim=Claim(NOW, ClaimSource.NONE))
    assert scene.walk().ready
    assert scene.syncer.timeouts == []
    assert Status.WARN.value in {each["status"] for each in scene.walk(max_age=OVER).entry.checks}
    assert Reason.NO_SOCKET.value in {each["reason"] for each in scene.walk(max_age=OVER).entry.checks}
