"""The table of Litestream's words: each real text means what it means, unknown ones nothing, and none shows a secret."""

from __future__ import annotations

import pytest

from sidecar.core.litestream_errors import MEANINGS, UnknownFailure, explain, reports_error, words

# Texts as printed by 0.5.17 and 0.3.13, seen with the fault made, or (marked S) put together as their sources do.
TEXTS = [
    ("auth", "Error: operation error S3: ListObjectsV2, https response error StatusCode: 403, RequestID: 1, HostID: , api error SignatureDoesNotMatch: The request signature we calculated does not match"),
    ("auth", "Error: operation error S3: ListObjectsV2, get identity: get credentials: failed to refresh cached credentials, no EC2 IMDS role found, operation error ec2imds: GetMetadata, access disabled"),
    ("auth", "Error: failed to create GCS client (bucket: b): dialing: google: could not find default credentials. See https://cloud"),
    ("auth", "Error: webdav: cannot connect to server: Authorize /: 401"),
    ("auth", "Error: ssh: handshake failed: ssh: unable to authenticate, attempted methods [none password], no supported methods remain"),
    ("auth", "Error: abs: cannot list blobs: GET http://127.0.0.1:1/app/bkt\n--------\nRESPONSE 403: 403 Server failed to authenticate the request.\nERROR CODE: AuthorizationFailure\n--------\n"),
    ("auth", "Error: open /rep/ltx/0: permission denied"),
    ("auth", 'time=2026-11-23T13:17:07.718Z level=ERROR msg="cannot list generations" db=/a.db replica=s3 error="SignatureDoesNotMatch: \\n\\tstatus code: 403, request id: 1"\nname  generation  lag  start  end'),
    ("no_backup", "Error: operation error S3: ListObjectsV2, https response error StatusCode: 404, RequestID: , HostID: , NoSuchBucket: "),
    ("no_backup", "Error: no matching backup files available"),
    ("no_backup", 'time=2026-11-23T13:17:47.922Z level=ERROR msg="failed to run" error="no matching backups found"'),
    ("unreachable", 'Error: operation error S3: ListObjectsV2, exceeded maximum number of attempts, 10, https response error StatusCode: 0, RequestID: , HostID: , request send failed, Get "http://127.0.0.1:9/b": dial tcp 127.0.0.1:9: connect: connection refused'),
    ("unreachable", 'time=x level=ERROR msg="cannot determine snapshots" error="cannot fetch generations: RequestError: send request failed\\ncaused by: Get \\"http://nosuch.invalid:9/b\\": dial tcp: lookup nosuch.invalid on 10.0.0.1:53: no such host"'),
    ("unreachable", "Error: nats: failed to connect: failed to connect to NATS server: nats: no servers available for connection"),
    ("unreachable", "Error: open /etc/passwd/ltx/0: not a directory"),
    ("unreachable", "Error: open /rep/ltx/1: too many levels of symbolic links"),
    ("unreachable", "Error: tls: failed to verify certificate: x509: certificate signed by unknown authority"),
    ("unreachable", "Error: api error SlowDown: Please reduce your request rate. StatusCode: 503"),
    # S: a connection cut while a sound file is read must not be taken for damage
    ("unreachable", "Error: decode database: decode page 9: read page header 0: read compressed data: max retries exceeded reading ltx file (level=9, min=01, max=02, offset=9): unexpected EOF"),
    ("unreachable", "Error: decode database: decode page 9: read page header 0: read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer"),
    ("timeout", 'Error: operation error S3: GetObject, Get "http://x": context deadline exceeded (Client.Timeout exceeded while awaiting headers)'),
    ("timeout", "Error: dial tcp 10.255.255.1:22: i/o timeout"),
    ("file_missing", "Error: cannot calc restore plan: non-contiguous ltx files: have up to 0000000000000004 but next file starts at 0000000000000006"),
    ("file_missing", 'time=x level=ERROR msg="failed to run" error="missing WAL index: 5cd8f7d600cfdc59/00000001"'),
    ("file_missing", "Error: decode database: decode header: decode header for input 0: reopen ltx file at offset 0: open ltx file /rep/x.ltx: open /rep/x.ltx: no such file or directory"),
    ("file_missing", "Error: decode database: s3: get object app/0009/1.ltx: operation error S3: GetObject, https response error StatusCode: 404, NoSuchKey: "),
    ("file_corrupt", "Error: decode database: decode page 79: read page header 4: read compressed data: unexpected EOF"),
    ("file_corrupt", "Error: invalid ltx file: level=0 min=01 max=02 has size 0 bytes (minimum 100)"),
    ("file_corrupt", "Error: decode database: decode header: decode header for input 2: max retries exceeded reading ltx file (level=0, min=04, max=04, offset=0): read /rep/ltx/0/04-04.ltx: is a directory"),
    ("file_corrupt", "Error: decode database: close reader 4: file checksum mismatch"),
    ("file_corrupt", 'time=x level=ERROR msg="failed to run" error="cannot restore snapshot: unexpected EOF"'),
    ("file_corrupt", 'time=x level=ERROR msg="failed to run" error="cannot restore snapshot: lz4: bad magic number"'),
    ("scratch_full", "Error: decode database: write page 65: write /scratch/r.db.tmp: no space left on device"),
    ("scratch_full", 'time=x level=ERROR msg="failed to run" error="cannot apply wal: database or disk is full"'),
    # Go's runtime gave up in the middle of a sound file: what stands on its stacks accuses nobody
    ("restore_failed", "fatal error: runtime: cannot allocate memory\n\nruntime stack:\nruntime.throw({0x1a626e2?})\n\ngoroutine 1 [running]:\ncrypto/elliptic.Unmarshal({0x1d216c8})\nservice/internal/checksum.(*validate).HandleDeserialize()"),
    ("restore_failed", "fatal error: failed to reserve page summary memory\n\nruntime stack:"),
    ("restore_failed", "Error: decode database: decode page 1: read page header 0: no flags allowed, reserved for future use"),
    ("restore_failed", "Error: create temp database path: open /scratch/r.db.tmp: permission denied"),
    ("restore_failed", "Error: decode database: write page 65: write /scratch/r.db.tmp: input/output error"),
    ("restore_failed", 'Error: unknown replica type in config: "fil"'),
    ("restore_failed", '2026/11/23 13:17:47 ERROR failed to run error="yaml: line 1: did not find expected \',\' or \'}\'"'),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "text"), TEXTS, ids=[f"{n}-{reason}" for n, (reason, _) in enumerate(TEXTS)])
def test_a_known_text_means_its_reason(reason: str, text: str) -> None:
    error = explain(text)
    assert error.reason == reason, error.message
    assert not isinstance(error, UnknownFailure)
    assert "Litestream says: " in error.message
    assert error.hint


@pytest.mark.parametrize(
    "text",
    [
        "Error: the flux capacitor is empty", "", "panic: runtime error: index out of range", "decode database: something new",
        "SIGABRT: abort\nPC=0x48ac77 m=1 sigcode=0\n\ngoroutine 1 [running]:\ncrypto/elliptic.Unmarshal({0x1d216c8})",
    ],
    ids=["new", "nothing", "panic", "only-the-stage", "signal"],
)  # fmt: skip
def test_unknown_words_accuse_nobody(text: str) -> None:
    error = explain(text)
    assert isinstance(error, UnknownFailure)
    assert error.reason == "restore_failed"
    assert error.hint


def test_every_row_is_met_by_a_text() -> None:
    met = {explain(text).message.split(" (Litestream says")[0] for _, text in TEXTS}
    unmet = {each.sentence for each in MEANINGS} - met
    assert unmet <= {
        "the store refuses us because our clock and its clock differ",
        "the store says that the bucket is in another region",
        "reading from the store failed",
    }


def test_secrets_are_masked_and_long_words_are_cut() -> None:
    text = "Error: replica path cannot be a url: s3://AKID:SEKRET@bkt/x for user LITERALSECRET " + "y" * 2000
    error = explain(text, secrets=("LITERALSECRET",))
    assert "SEKRET" not in error.message
    assert "LITERALSECRET" not in error.message
    assert len(error.message) < 500


def test_the_words_that_matter_are_found() -> None:
    sdk_warning = (
        "SDK 2026/11/23 WARN falling back to IMDSv1: connection refused\nError: no matching backup files available\n"
    )
    assert words(sdk_warning) == "no matching backup files available"
    assert words("some stack\npanic: makechan: size out of range\ngoroutine 1") == "panic: makechan: size out of range"
    assert reports_error('time=x level=ERROR msg="cannot fetch wal segments" error=EOF')
    assert not reports_error("replica  generation  index  size  created")
