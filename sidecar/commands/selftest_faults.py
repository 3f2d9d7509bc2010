"""The fault gallery: every way in which the selftest breaks a backup, what has to turn red, and how it is mended.

Each fault has a database and a replica of its own (`Patient`), so that all of them are broken at once beside one Litestream and one daemon.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.commands.selftest_patient import MORE, NEEDLE, NOTE, SCHEMA, SNAPSHOTS, USERS, Patient, last_txid
from sidecar.core.finding import Reason


@dataclass(frozen=True, slots=True)
class Fault:
    """One way to break it. `reds`: any of these reasons is right, the one that is expected first; () where nothing may turn red."""

    name: str
    what: str
    reds: tuple[Reason, ...]
    break_it: Callable[[Patient], None]
    mend_it: Callable[[Patient], None]
    how: str = ""  # it is mended
    alone: bool = False  # with Litestream stopped in between, so that nothing else can be tried meanwhile

    @property
    def harmless(self) -> bool:
        """Whether it only looks like a fault."""
        return not self.reds


def nothing(patient: Patient) -> None:
    """Nothing has to be mended."""
    del patient


def lose_the_middle(patient: Patient) -> None:
    """Every file that holds the middle of the changes, and no snapshot."""
    changes = [file for file in patient.files() if file.parent.name != SNAPSHOTS]
    snapshot, newest = last_txid(patient.newest()), last_txid(changes[-1])
    middle = (snapshot + newest + 1) // 2
    for file in changes:
        if int(file.stem.split("-")[0], 16) <= middle <= last_txid(file):
            file.unlink()


def lose_the_newest(patient: Patient) -> None:
    """Every file past the oldest snapshot."""
    oldest = last_txid(patient.files(SNAPSHOTS)[0])
    for file in patient.files():
        if last_txid(file) > oldest:
            file.unlink()


def lose_the_beginning(patient: Patient) -> None:
    """The snapshots, and every file that begins with the first transaction."""
    for file in patient.files():
        if file.stem.startswith("0000000000000001-"):
            file.unlink()


def cut(patient: Patient) -> None:
    """Half of it."""
    file = patient.newest()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(patient: Patient) -> None:
    """One bit in the middle."""
    file = patient.newest()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def empty(patient: Patient) -> None:
    """No byte is left."""
    patient.newest().write_bytes(b"")


def remove(patient: Patient) -> None:
    """Nothing is left."""
    shutil.rmtree(patient.replica)


def take_anothers(patient: Patient) -> None:
    """Another database's files at the path."""
    shutil.rmtree(patient.replica)
    shutil.copytree(patient.other, patient.replica, copy_function=shutil.copy2)


def have_its_own(patient: Patient) -> None:
    """Only its own files."""
    shutil.rmtree(patient.replica)
    patient.put_back()


def change_a_byte(patient: Patient) -> None:
    """In a row, past SQLite, once the row stands in the database file."""
    patient.sql("pragma wal_checkpoint(full)")
    patient.write(NEEDLE, NEEDLE.upper())


def change_it_back(patient: Patient) -> None:
    """As it was."""
    patient.write(NEEDLE.upper(), NEEDLE)


def replace(patient: Patient) -> None:
    """Another file comes to the path, under a running Litestream."""
    rename(patient)
    patient.sql(SCHEMA)
    patient.sql("delete from users where id > 10")


def give_back(patient: Patient) -> None:
    """The file that Litestream knew comes back, with its WAL; Litestream does not find out by itself."""
    patient.litestream.stop()
    for tail in ("", "-wal", "-shm"):
        file = patient.database.with_name(f"{patient.database.name}{tail}")
        file.unlink(missing_ok=True)
    rename_back(patient)
    patient.litestream.start()
    patient.sql(MORE)  # what was committed to the other file is lost, which stays red until there is something newer


def rename(patient: Patient) -> None:
    """Production's file has another name, with its WAL."""
    _move(patient.database, patient.aside)


def rename_back(patient: Patient) -> None:
    """As it was called."""
    _move(patient.aside / patient.database.name, patient.database.parent)


def _move(database: Path, folder: Path) -> None:
    for tail in ("", "-wal", "-shm"):
        file = database.with_name(f"{database.name}{tail}")
        if file.exists():
            file.rename(folder / file.name)


def lose_the_local_folder(patient: Patient) -> None:
    """Litestream's own notes beside the database go, and the app goes on."""
    shutil.rmtree(patient.database.with_name(f".{patient.database.name}-litestream"))
    patient.sql(MORE)


def start_again(patient: Patient) -> None:
    """As a service manager does."""
    patient.litestream.stop()
    patient.litestream.start()


def restart_beside_a_checkpoint(patient: Patient) -> None:
    """The app commits, checkpoints once and commits again while Litestream is restarted."""
    with patient.held():
        patient.sql("; ".join([NOTE] * 100))
        patient.litestream.stop()
        patient.sql("; ".join([*[NOTE] * 100, "pragma wal_checkpoint(passive)", *[NOTE] * 20]))
        patient.litestream.start()
        patient.sql("; ".join([NOTE] * 20))


def begin_anew(patient: Patient) -> None:
    """An empty place for its replica, and nothing of the old one beside the database."""
    patient.litestream.stop()
    shutil.rmtree(patient.replica)
    shutil.rmtree(patient.database.with_name(f".{patient.database.name}-litestream"))
    patient.litestream.start()


def go_on_alone(patient: Patient) -> None:
    """A commit that nobody replicates."""
    patient.litestream.stop()
    patient.sql(MORE)


def damage_an_index(patient: Patient) -> None:
    """Rows that an index does not know: SQLite answers wrong, and every restore works."""
    patient.sql(
        "create table hidden as select * from sqlite_schema where name = 'users_by_name'; pragma writable_schema = on;"
        "delete from sqlite_schema where name = 'users_by_name'"
    )
    patient.sql("insert into users (name) values ('nobody finds me')")
    patient.sql(
        "pragma writable_schema = on; insert into sqlite_schema select * from hidden;"
        "pragma writable_schema = off; drop table hidden"
    )


FAULTS: tuple[Fault, ...] = (
    Fault(
        "newest-lost", "the newest backup files are gone", (Reason.LAGGING, Reason.CHAIN_GAP),
        lose_the_newest, Patient.put_back, "the files come back",
    ),
    Fault(
        "gap", "a file in the middle is gone", (Reason.CHAIN_GAP, Reason.FILE_MISSING),
        lose_the_middle, Patient.put_back, "the file comes back",
    ),
    Fault(
        "beginning-lost", "the snapshots are gone", (Reason.NO_SNAPSHOT,),
        lose_the_beginning, Patient.put_back, "they come back",
    ),
    Fault("empty-replica", "the whole replica is gone", (Reason.NO_BACKUP, Reason.NO_SNAPSHOT), remove, Patient.put_back, "it comes back"),
    Fault(
        "cut-short", "a backup file is cut short", (Reason.FILE_CORRUPT,), cut, Patient.put_back, "the whole file comes back",
    ),
    Fault(
        "bit-flipped", "one bit of a backup file is another", (Reason.FILE_CORRUPT,), flip, Patient.put_back,
        "the sound file comes back",
    ),
    Fault(
        "zero-bytes", "a backup file is empty", (Reason.FILE_CORRUPT,), empty, Patient.put_back, "the whole file comes back",
    ),
    Fault(
        "another-database", "another app's backup lies at the path",
        (Reason.PAGES_DIFFER, Reason.IDENTITY_CHANGED, Reason.DB_CORRUPT),
        take_anothers, have_its_own, "its own files come back",
    ),
    Fault(
        "byte-changed", "a byte of production changed past SQLite", (Reason.PAGES_DIFFER,), change_a_byte, change_it_back,
        "the byte is written back",
    ),
    Fault(
        "index-damaged", "rows are missing from an index", (Reason.DB_CORRUPT,), damage_an_index,
        lambda patient: patient.sql("reindex"), "`reindex`",
    ),
    Fault(
        "emptied", "all tables are dropped", (Reason.EMPTY,),
        lambda patient: patient.sql("drop table users; drop table notes"), lambda patient: patient.sql(SCHEMA),
        "they are made again",
    ),
    Fault(
        "shrunk", "nine rows in ten are deleted", (Reason.SHRUNK,),
        lambda patient: patient.sql("delete from users where id % 10 > 0"), lambda patient: patient.sql(USERS),
        "they are inserted again",
    ),
    Fault(
        "assertion", "a question of your own is answered wrong", (Reason.ASSERTION_FAILED,),
        lambda patient: patient.sql("update notes set text = 'lost'"),
        lambda patient: patient.sql("update notes set text = 'needle-in-a-row'"), "the row is as it was",
    ),
    Fault(
        "renamed", "production's file has another name", (Reason.UNREADABLE, Reason.STALLED, Reason.LAGGING), rename, rename_back,
        "it is called as before",
    ),
    Fault("vacuumed", "`vacuum` writes every page anew", (), lambda patient: patient.sql("vacuum"), nothing),
    Fault("idle", "nothing is written for a while", (), nothing, nothing),
    Fault(
        "file-replaced", "another file comes to production's path", (Reason.FILE_REPLACED,), replace, give_back,
        "the file comes back, Litestream is started again, the app goes on", alone=True,
    ),
    Fault(
        "local-folder-lost", "Litestream's folder beside production is gone",
        (Reason.STALLED, Reason.LAGGING), lose_the_local_folder, start_again, "Litestream is started again", alone=True,
    ),
    Fault(
        "litestream-restarted", "Litestream is restarted while the app writes and checkpoints",
        (Reason.PAGES_DIFFER, Reason.DB_CORRUPT), restart_beside_a_checkpoint, begin_anew, "the replica begins anew", alone=True,
    ),
    Fault(
        "litestream-ended", "Litestream ends, and the app goes on", (Reason.LITESTREAM_DOWN, Reason.LAGGING), go_on_alone,
        lambda patient: patient.litestream.start(), "Litestream is started", alone=True,
    ),
)  # fmt: skip
