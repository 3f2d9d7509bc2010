"""Receipts as files: written whole or not at all, read strictly, keys read from where they stand."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

from sidecar.core.errors import ReceiptError
from sidecar.core.receipt import Receipt, receipt_document, receipt_of

KEY_BYTES_MIN = 16  # shorter keys can be guessed
RECEIPT_BYTES_MAX = 64 * 1024 * 1024  # a thousand databases of a hundred tables are 10 MB


def read_key(file: Path | None) -> bytes | None:
    """The key that signs receipts, white space at its ends left out; None where no file is named. Raises ReceiptError."""
    if file is None:
        return None
    try:
        key = file.read_bytes().strip()
    except OSError as error:
        raise ReceiptError(
            f"--key-file {file} cannot be read: {error.strerror}", "make it readable for this user"
        ) from None
    if len(key) < KEY_BYTES_MIN:
        raise ReceiptError(
            f"--key-file {file} holds {len(key)} bytes, a key needs at least {KEY_BYTES_MIN}",
            f"make one: `head -c 32 /dev/urandom | base64 > {file}`",
        )
    return key


def read_receipt(file: Path, key: bytes | None) -> Receipt:
    """The receipt in a file. Raises ReceiptError: there is none, it is none of ours, it was altered, or it needs the key."""
    try:
        with file.open("rb") as opened:
            data = opened.read(RECEIPT_BYTES_MAX + 1)
    except FileNotFoundError:
        raise ReceiptError(f"there is no receipt {file}", "name the file that `gate` said it wrote") from None
    except OSError as error:
        raise ReceiptError(
            f"the receipt {file} cannot be read: {error.strerror}", "make it readable for this user"
        ) from None
    if len(data) > RECEIPT_BYTES_MAX:
        raise ReceiptError(f"{file} is no receipt: it is too large", "name the file that `gate` said it wrote")
    return receipt_of(data.decode(errors="replace"), str(file), key)


def write_receipt(receipt: Receipt, file: Path, key: bytes | None) -> None:
    """Write it, mode 0600, beside its place and renamed; what stands there is never replaced.

    Raises:
        ReceiptError: something stands there already, or it cannot be written.
    """
    text = json.dumps(receipt_document(receipt, key), indent=2) + "\n"
    beside: str | None = None
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with open(descriptor, "w", encoding="ascii") as opened:  # noqa: PTH123 - a descriptor
            opened.write(text)
            opened.flush()
            os.fsync(descriptor)
        try:
            os.link(beside, file)  # unlike a rename it never replaces
        except FileExistsError:
            raise ReceiptError(f"{file} exists already", "name another file with --receipt, or move it away") from None
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise ReceiptError(
            f"the receipt {file} cannot be written: {error.strerror}", "name another file with --receipt"
        ) from None
    finally:
        if beside is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)  # noqa: PTH108 - a name from tempfile
