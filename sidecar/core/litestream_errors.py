"""What Litestream's error texts mean: ONE table from a pattern to a reason, a sentence and a way out.

Every failure of Litestream's is exit code 1 (0.3: some are exit 0), so only its words tell them apart. The first row that
matches decides, which is why rows about our own disk and about the network stand before rows about damaged files: a cut
connection must never be taken for a damaged backup. Words that no row knows make an `UnknownFailure`, which claims nothing.

Sources: Litestream 0.5.16 (`replica.go`, `internal/resumable_reader.go`, `replica_client.go`, `cmd/litestream`), its
`ltx` library 0.5.2 (`decoder.go`, `compactor.go`), Litestream 0.3.13 (`replica.go`), and the texts seen in tests.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sidecar.core.errors import LitestreamError
from sidecar.core.redact import redact

EXCERPT_CHARS_MAX = 300
# Reasons that say a file is not there; it may only not be there yet.
MISSING = frozenset({"file_missing", "no_backup"})
# A restart alone brings a snapshot only where there is none (0.5 and 0.3, seen): a damaged one, or a gap behind one, stays.
NEW_SNAPSHOT_HINT = (
    "give Litestream a new, empty path for this replica and restart it: it takes a snapshot there at once; "
    "keep the old path for inspection"
)


class UnknownFailure(LitestreamError):
    """Litestream failed with words that the table does not know: neither the backup nor the store is accused."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("restore_failed", message, hint)


@dataclass(frozen=True, slots=True)
class Meaning:
    """One row: where `pattern` is found in Litestream's words, this is what happened."""

    pattern: re.Pattern[str]
    reason: str
    sentence: str
    hint: str


def _row(reason: str, sentence: str, hint: str, *patterns: str) -> Meaning:
    return Meaning(re.compile("|".join(patterns), re.IGNORECASE), reason, sentence, hint)


MEANINGS: tuple[Meaning, ...] = (
    _row(
        "restore_failed", "Litestream ran out of memory", "give the machine or the container more memory",
        "out of memory", "cannot allocate memory", r"^fatal error: .*\bmemory\b",
    ),
    _row(
        "scratch_full", "the scratch directory ran full",
        "free some space, raise resources.scratch-max, or move scratch-dir",
        "no space left on device", "disk quota exceeded", "database or disk is full", "file too large",
    ),
    _row(
        "restore_failed", "the scratch directory cannot be written to", "check scratch-dir: that it exists and is ours",
        "create temp database path", "create parent directory", r"(cannot|path) .{0,20}output path", r"output path already exists",
        r"write page \d+: write ", "disk i/o error",
    ),
    _row(
        "restore_failed", "this Litestream is older than the one that wrote the backup",
        "run the sidecar with the same Litestream as the app, or a newer one (0.5.16 changed the format of its files)",
        "no flags allowed, reserved for future use",
    ),
    _row(
        "auth", "the store refuses us because our clock and its clock differ", "set the clock of this machine (NTP)",
        "RequestTimeTooSkewed",
    ),
    _row(
        "auth", "the store refuses our credentials", "check the replica's credentials in litestream.yml and the environment",
        "SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied", "ExpiredToken", "InvalidToken", r"status ?code: 40[13]\b",
        r"\bget credentials", "NoCredentialProviders", "could not find default credentials", r"\bError 40[13]\b",
        "AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch", "InvalidAuthenticationInfo",
        "DefaultAzureCredential", "unable to authenticate", r"Authorize /.*: 40[13]", "Authorization Violation",
        "host key mismatch",
    ),
    _row(
        "auth", "the replica's files may not be read by this user", "run the sidecar as a user that may read the replica",
        "permission denied", r"(ReadDir|ReadStream|ReadStreamRange|Stat) [^\n]*: 403\b",
    ),
    _row(
        "no_backup", "the replica's bucket does not exist", "check the replica's bucket in litestream.yml",
        "NoSuchBucket", "ContainerNotFound", "bucket does ?n[o']t exist", "bucket not found", "stream not found",
        "failed to access object store bucket",
    ),
    _row(
        "no_backup", "the replica holds no backup that could be restored",
        "check the replica's path; if its files were deleted, restart Litestream so that it takes a snapshot",
        "no matching backup", "no snapshots available", "transaction not available",
    ),
    _row(
        "unreachable", "the store's certificate or TLS set-up is not accepted", "check the endpoint (http or https) and its certificate",
        "x509:", r"\btls: ", "server gave HTTP response to HTTPS client", "WithTransportOptions",
    ),
    _row(
        "unreachable", "the store says that the bucket is in another region", "check the replica's region in litestream.yml",
        "PermanentRedirect", "AuthorizationHeaderMalformed", "BucketRegionError", "IncorrectEndpoint",
    ),
    _row(
        "timeout", "the store did not answer in time", "check the store, or raise litestream.command-timeout",
        "context deadline exceeded", r"Client\.Timeout", "i/o timeout", "connection timed out", "TLS handshake timeout",
        r"\bRequestTimeout\b", "nats: timeout",
    ),
    _row(
        "file_corrupt", "a folder stands where a file of the backup should be", NEW_SNAPSHOT_HINT, r"\.ltx: is a directory",
    ),
    _row(
        "unreachable", "the store cannot be reached", "check that the replica's host is up and can be reached from here",
        "connection refused", "no such host", "no route to host", "(network|host) is (unreachable|down)", "connection reset",
        "broken pipe", "no servers available", "server misbehaving", "name resolution", "max retries exceeded reading",
        "use of closed network connection", r"\b(Get|Head|Options|Propfind) \"[^\"]*\": (unexpected )?EOF", "connection lost",
    ),
    _row(
        "unreachable", "the store answers with errors of its own", "look at the store's health, and wait",
        r"status ?code: 5\d\d\b", "SlowDown", "ServiceUnavailable", "ServerBusy", r"\bInternalError\b", r"\bError 5\d\d\b",
        r"(Authorize|ReadDir|ReadStream|ReadStreamRange|Stat) [^\n]*: 50\d\b",
    ),
    _row(
        "unreachable", "the replica's folder cannot be read", "check the replica's path and the file system it lies on",
        "not a directory", "input/output error", "stale (NFS )?file handle", "transport endpoint is not connected",
        "too many open files", "too many levels of symbolic links",
    ),
    _row(
        "restore_failed", "Litestream does not accept its configuration", "run `litestream-sidecar doctor` to see what to change",
        "not found in config", "cannot unmarshal", "unknown replica type", "must specify replica", r"\byaml: ",
        "multiple replicas", "age encryption", "config file not found", "flag provided but not defined", "cannot be a url",
        "(host|user|url|bucket|name) (is )?required",
    ),
    _row(
        "file_missing", "files are missing from the backup", f"find out who deleted them; {NEW_SNAPSHOT_HINT}",
        "non-contiguous", "missing WAL index", "missing WAL segment", "missing initial wal segment", "NoSuchKey", "BlobNotFound",
        "object does ?n[o']t exist", "object not found", "no such file or directory", "file does not exist", "ltx file missing",
        r"status ?code: 404\b", r"\bError 404\b", r"(ReadStream|ReadStreamRange) [^\n]*: 404\b", "wal segments out of order", "makechan: size out of range",
    ),
    _row(
        "unreachable", "reading from the store failed", "check the network and the store's health, and wait",
        r"\b(read|dial|write) (tcp|udp)\b", "request send failed", "operation error S3", "RequestError", r"\bhttp2: ",
        "s3: get ", "cannot read file", "failed to get object", "cannot start new reader",
    ),
    _row(
        "file_corrupt", "a file of the backup is damaged",
        NEW_SNAPSHOT_HINT,
        "checksum", "unexpected EOF", r"(decode|read) [^\n]*: EOF$", "invalid ltx file", "ltx file corrupted", "unmarshal", "decompress",
        r"\blz4: ", "lz4 (end frame|trailer)", "mismatched page sizes", "unexpected (pgno|page)", "non-snapshot LTX file",
        r"invalid (page|flags|version)\b", "transaction ids? (required|out of order)", "malformed", "file is not a database",
    ),
)  # fmt: skip

_ERROR_LINES = (
    # Go's runtime gave up. Below stand the stacks, whose function names (`Unmarshal`, `checksum`) accuse nobody.
    re.compile(r"^(?P<said>fatal error: .*)$", re.MULTILINE),
    re.compile(r"^(?P<said>SIG[A-Z]+: .*)$", re.MULTILINE),
    re.compile(r"^Error: (?P<said>.*(?:\n(?!time=).*)*)", re.MULTILINE),  # Azure's code stands lines below
    re.compile(r'level=ERROR .*\berror="(?P<said>(?:[^"\\]|\\.)*)"'),
    re.compile(r"level=ERROR .*\berror=(?P<said>[^\s\"]+)"),
    re.compile(r'\bERROR .*\berror="(?P<said>.*)"'),
    re.compile(r"^(?P<said>panic: .*)$", re.MULTILINE),
)

_RULES = re.compile(r"-{5,}")  # Azure's SDK draws lines between the parts of its errors


def reports_error(output: str) -> bool:
    """Whether Litestream 0.3 logged an error: its listing commands do, and exit 0 above an empty table."""
    return "level=ERROR" in output


def words(output: str) -> str:
    """The words that matter in what Litestream printed: its error line, else all of it."""
    for line in _ERROR_LINES:
        found = line.search(output)
        if found is not None:
            return found["said"].replace('\\"', '"').replace("\\n", " ").replace("\\t", " ").strip()
    return output.strip()


def explain(output: str, *, secrets: tuple[str, ...] = ()) -> LitestreamError:
    """The error that stands for what Litestream printed; its message carries Litestream's own words, masked."""
    said = words(output)
    excerpt = " ".join(_RULES.sub(" ", redact(said, secrets)).split())
    if len(excerpt) > EXCERPT_CHARS_MAX:
        excerpt = excerpt[: EXCERPT_CHARS_MAX // 2] + " … " + excerpt[-EXCERPT_CHARS_MAX // 2 :]
    for meaning in MEANINGS:
        if meaning.pattern.search(said):
            return LitestreamError(meaning.reason, f"{meaning.sentence} (Litestream says: {excerpt})", meaning.hint)
    return UnknownFailure(
        f"Litestream failed and says: {excerpt}" if excerpt else "Litestream failed and says nothing",
        "run the same command by hand; if the words are new, report them to the sidecar's authors",
    )
