"""Looks list a replica by the shortest way: in this process where that is safe, by Litestream's command in all other cases.

One adapter in several rooms: `lister` (which way, and what happens when the short one fails), `target` (where a replica is, told from
its configuration), `names` (Litestream's file names), `folder` (file replicas), `bucket` (S3), `commons` (one listing for many
databases), `fetching` (single files, for drills by change), `flight` (a listing in a thread that may hang without anybody hanging with it), `requests` (what it cost).

The short way is for success only. Whatever it does not understand, whatever fails, and whatever looks empty is asked of
Litestream in the same look, so no error, reason or hint is ever told from here.
"""

from sidecar.adapters.replica_listing.fetching import Fetcher
from sidecar.adapters.replica_listing.lister import LookLister
from sidecar.adapters.replica_listing.requests import Requests

__all__ = ["Fetcher", "LookLister", "Requests"]
