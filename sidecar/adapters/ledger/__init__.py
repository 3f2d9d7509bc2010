"""The ledger: evidence in a small SQLite file, in memory for whoever reads, on disk for the next start.

One adapter in five rooms: `folder` (the state directory and its lock), `codec` (values to text), `file` (SQL), `ledger`
(memory, and when it goes to disk), and `deploys`, a book of its own: what deploy commands decided.
"""

from sidecar.adapters.ledger.deploys import Deploys
from sidecar.adapters.ledger.ledger import Ledger

__all__ = ["Deploys", "Ledger"]
