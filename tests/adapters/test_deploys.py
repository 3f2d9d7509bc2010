"""The book of deploys: a receipt is used once, whoever asks and whoever dies; counts are shared between processes."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import apsw
import pytest

from sidecar.adapters.ledger.deploys import DECISIONS_KEPT_MAX, Deploys
from sidecar.core.decision import Kind, Word
from sidecar.core.errors import EnvironmentProblem, ReceiptError
from tests.core.receipts import RECEIPT_ID, decision
from tests.litestreams import ROOT

OTHER_ID = "20261124T030000Z-0123abcd"
TAKER = """
import sys
from pathlib import Path
from sidecar.adapters.ledger import Deploys
from sidecar.core.errors import ReceiptError
book = Deploys(Path(sys.argv[1]))
print("up", flush=True)
for line in sys.stdin:
    try:
        book.take(line.strip())
    except ReceiptError as error:
        print("no:", error.message, flush=True)
    else:
        print("taken", flush=True)
"""


@contextlib.contextmanager
def process(state: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """Another process, that takes a receipt whenever it is told to, and lives until the block ends."""
    command = [sys.executable, "-c", TAKER, str(state)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"up\n"
            yield child.stdin, child.stdout
        finally:
            child.kill()


def tell(pipes: tuple[IO[bytes], IO[bytes]], receipt_id: str = RECEIPT_ID) -> None:
    pipes[0].write(f"{receipt_id}\n".encode())
    pipes[0].flush()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def book(state: Path) -> Deploys:
    return Deploys(state)


def refusal(work: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(ReceiptError) as caught:
        work()
    return caught.value.message, caught.value.hint


def test_a_receipt_is_used_once(book: Deploys, state: Path) -> None:
    book.take(RECEIPT_ID)
    for word in (Word.PASSED, Word.REFUSED):
        book.write(decision(word, Kind.POSTCHECK))
        for each in (book, Deploys(state)):
            message, hint = refusal(partial(each.take, RECEIPT_ID))
            assert message == f"the receipt {RECEIPT_ID} was used already"
            assert "gate again" in hint
    book.take(OTHER_ID)
    assert state.stat().st_mode & 0o777 == 0o700
    assert book.path.stat().st_mode & 0o777 == 0o600


def test_a_postcheck_that_could_not_tell_leaves_its_receipt_for_another_try(book: Deploys) -> None:
    for _ in range(3):
        book.take(RECEIPT_ID)
        book.write(decision(Word.UNKNOWN, Kind.POSTCHECK))
    book.take(RECEIPT_ID)


def test_what_a_gate_or_a_rollback_decides_uses_no_receipt(book: Deploys) -> None:
    for kind in (Kind.GATE, Kind.ROLLBACK):
        for word in Word:
            book.write(decision(word, kind))
    book.take(RECEIPT_ID)
    book.write(decision(Word.PASSED, Kind.POSTCHECK))
    book.write(decision(Word.UNKNOWN, Kind.ROLLBACK))
    assert "was used already" in refusal(lambda: book.take(RECEIPT_ID))[0]


def test_a_receipt_in_use_is_refused_until_its_user_has_died(book: Deploys, state: Path) -> None:
    with process(state) as other:
        tell(other)
        assert other[1].readline() == b"taken\n"
        message, hint = refusal(lambda: book.take(RECEIPT_ID))
        assert message == f"the receipt {RECEIPT_ID} is in use by another postcheck"
        assert hint
        book.take(OTHER_ID)
    book.take(RECEIPT_ID)
    with process(state) as other:
        tell(other)
        assert other[1].readline() == b"no: the receipt %s is in use by another postcheck\n" % RECEIPT_ID.encode()


def test_one_process_does_not_use_a_receipt_twice_at_a_time(book: Deploys, state: Path) -> None:
    book.take(RECEIPT_ID)
    for each in (book, Deploys(state)):
        assert "is in use" in refusal(partial(each.take, RECEIPT_ID))[0]


def test_of_processes_that_take_it_at_once_exactly_one_does(state: Path) -> None:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(process(state)) for _ in range(3)]
        for number in range(20):
            for each in others:
                tell(each, f"202611{number:02}T030000Z-0123abcd")
            said = sorted(each[1].readline().split(b" ")[0].strip() for each in others)
            assert said == [b"no:", b"no:", b"taken"]


def test_gates_are_counted_by_decision_and_others_are_not(book: Deploys, state: Path) -> None:
    assert book.counts == {}
    for word in (Word.PASSED, Word.PASSED, Word.REFUSED, Word.OVERRIDDEN):
        book.write(decision(word))
    book.write(decision(Word.PASSED, Kind.POSTCHECK))
    book.write(decision(Word.REFUSED, Kind.ROLLBACK))
    assert book.counts == {"passed": 2, "refused": 1, "overridden": 1}
    again = Deploys(state)
    again.refresh()
    assert again.counts == book.counts, "a counter goes on after a restart"


def test_what_others_wrote_is_seen_after_a_refresh_and_costs_nothing_when_there_is_nothing(
    book: Deploys, state: Path
) -> None:
    other = Deploys(state)
    book.refresh()
    assert not state.exists(), "reading makes nothing"
    other.write(decision())
    assert book.counts == {}
    book.refresh()
    assert book.counts == {"passed": 1}
    before = book.counts
    book.refresh()
    assert book.counts is before
    command = (
        "import sys; from pathlib import Path; from sidecar.adapters.ledger import Deploys;"
        "from tests.core.receipts import decision; Deploys(Path(sys.argv[1])).write(decision())"
    )
    subprocess.run([sys.executable, "-c", command, str(state)], check=True, cwd=ROOT)
    book.refresh()
    assert book.counts == {"passed": 2}


def test_decisions_come_back_newest_first(book: Deploys) -> None:
    assert book.newest(10) == []
    for number in range(3):
        book.write(decision(reason=f"naïve 💾 {number}"))
    assert [each["reason"] for each in book.newest(2)] == ["naïve 💾 2", "naïve 💾 1"]
    assert json.dumps(book.newest(1)[0])


def test_old_decisions_go_and_are_still_counted(book: Deploys) -> None:
    book.write(decision(reason="the first"))
    connection = apsw.Connection(str(book.path))
    connection.execute(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < ?)"
        " insert into decisions (document) select (select document from decisions) from n",
        (DECISIONS_KEPT_MAX,),
    )
    connection.close()
    book.write(decision(reason="the last"))
    newest = book.newest(DECISIONS_KEPT_MAX * 2)
    assert (len(newest), newest[0]["reason"], book.counts) == (DECISIONS_KEPT_MAX, "the last", {"passed": 2})


def unusable(work: Callable[[], object]) -> str:
    with pytest.raises(EnvironmentProblem) as caught:
        work()
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"not a database, and long enough to be told from an empty one" * 99),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 8192),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
    ],
    ids=["no database", "pages of nonsense", "cut off"],
)
def test_a_damaged_book_is_said_and_lets_nobody_through(
    book: Deploys, state: Path, damage: Callable[[Path], object]
) -> None:
    book.write(decision(Word.PASSED, Kind.POSTCHECK))
    damage(book.path)
    for work in (lambda: book.take(RECEIPT_ID), lambda: book.write(decision()), Deploys(state).refresh):
        message = unusable(work)
        assert message.startswith(f"{book.path} cannot be used: ")


def test_a_schema_of_a_later_sidecar_is_not_misread(book: Deploys) -> None:
    book.write(decision())
    connection = apsw.Connection(str(book.path))
    connection.execute("alter table receipts rename to used; pragma user_version = 2")
    connection.close()
    assert "no such table" in unusable(lambda: book.take(RECEIPT_ID))


def test_a_state_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written" in unusable(lambda: Deploys(tmp_path / "file").take(RECEIPT_ID))
    folder = tmp_path / "ro"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(folder)], check=True)
    try:
        book = Deploys(folder)
        book.take(OTHER_ID)
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        assert "readonly" in unusable(lambda: book.take(RECEIPT_ID))
        assert "readonly" in unusable(lambda: book.write(decision()))
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_takes_no_receipt(tmp_path: Path) -> None:
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], check=True)
    try:
        book = Deploys(folder)
        book.take(OTHER_ID)
        with contextlib.suppress(OSError), (folder / "rest").open("wb", buffering=0) as rest:
            while rest.write(b"x" * 4096):
                pass
        assert "full" in unusable(lambda: book.take(RECEIPT_ID))
        (folder / "rest").unlink()
        book.take(RECEIPT_ID)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("odd", ["\0", "x" * 100_000, ""])
def test_an_odd_id_breaks_nothing(book: Deploys, odd: str) -> None:
    with contextlib.suppress(ReceiptError, EnvironmentProblem):
        book.take(odd)
    book.take(RECEIPT_ID)
