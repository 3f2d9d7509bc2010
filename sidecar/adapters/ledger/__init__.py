"""The ledger: evidence in a small SQLite file, in memory for whoever reads, on disk for the next start.

One adapter in four rooms: `folder` (the state directory and its lock), `codec` (values to text), `file` (SQL) and
`ledger` (memory, and when it goes to disk).
"""

from sidecar.adapters.ledger.ledger import Ledger

__all__ = ["Ledger"]
