"""Errors that reach a person: one sentence (`error:`), one hint (`try:`), one exit code.

SidecarError                       exit
├ ProvedBad                          1   what was to be put in place is damaged, or there is no way back: proved
├ ConfigError                        2   what a person wrote is wrong (carries every mistake at once)
├ EnvironmentProblem                 2   the machine is not set up: no binary, port taken, foreign state directory
├ ReceiptError                       2   a receipt is missing, altered, expired, used, or of another database
├ LitestreamError                    3   a command of Litestream's failed; `.reason` is a word of the contract
├ Unreadable                         3   the live database may not or cannot be opened
├ UnsoundCopy                        3   SQLite met damage in a restored copy after a check had let it pass
├ ScratchFull                        3   too little room to restore
├ Stopped                            3   the daemon was told to stop while the work ran
└ Overdue                            3   the work's deadline passed
"""

from __future__ import annotations

from dataclasses import dataclass

from sidecar.core.people import tame

# What to do about EMFILE, wherever it strikes: it says nothing of the file that was to be opened.
OPEN_FILES_HINT = "raise the sidecar's limit of open files (`ulimit -n`, LimitNOFILE= in its unit), and restart it"
SAID_MAX = 400  # characters of one mistake: a key or a value may be as long as the file


class SidecarError(Exception):
    """Anything we refuse with a sentence.

    Args:
        message: one plain sentence, free of secrets.
        hint: what a tired person can do about it; empty where there is nothing to do.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ProvedBad(SidecarError):
    """A no that is proved: a backup, an artifact or production is damaged, or what was asked for does not exist any more."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing wrong in a file: where (`dbs[0].replica`, line 7) and what."""

    field: str
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"{self.field}: " if self.field else ""
        said = tame(" ".join(f"{where}{self.message}".split()))  # it may quote the file
        said = said if len(said) <= SAID_MAX else f"{said[: SAID_MAX // 2]} … {said[-SAID_MAX // 2 :]}"
        return said + (f" (line {self.line})" if self.line is not None else "")


class ConfigError(SidecarError):
    """litestream.yml, sidecar.yml or an option is wrong; every mistake is carried, not only the first."""

    exit_code = 2

    def __init__(self, source: str, mistakes: tuple[Mistake, ...], hint: str = "") -> None:
        super().__init__(f"{source}: " + "; ".join(str(each) for each in mistakes), hint)
        self.source = source
        self.mistakes = mistakes


class EnvironmentProblem(SidecarError):
    """The machine is not set up for us: a missing binary, a port in use, a foreign state directory."""

    exit_code = 2


class ReceiptError(SidecarError):
    """A receipt that may not be used: missing, altered, expired, used already, of another database."""

    exit_code = 2


class LitestreamError(SidecarError):
    """A Litestream command failed. `reason` is one of `Reason` (auth, unreachable, timeout, no_backup, …)."""

    def __init__(self, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.reason = reason


class Unreadable(SidecarError):
    """The live database may not be opened safely, or SQLite cannot open it. Never a statement about damage."""


class UnsoundCopy(SidecarError):
    """SQLite met damage in a file that nobody writes; `said` is its word."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name}: {said}", "run a drill with integrity_check (`verify --full`)")
        self.said = said


class ScratchFull(SidecarError):
    """Too little free room in the scratch directory for what was about to be restored or copied."""


class Stopped(SidecarError):
    """The stop event was set while the work ran."""


class Overdue(SidecarError):
    """The work's deadline passed."""
