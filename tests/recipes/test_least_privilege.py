"""What README.md says is enough for the sidecar: of the store the right to list and to read, in a store that enforces it."""

from __future__ import annotations

import copy
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from tests.faces.commands import Ran
from tests.recipes.place import Place
from tests.recipes.snippets import blocks_below

(POLICY,) = blocks_below("What to give it", "json")
BUCKET, PREFIX, REGION = "app-backup", "app", "us-east-1"


@dataclass
class Store:
    """An object store with users whose rights it looks at."""

    url: str
    user: dict[str, str]

    def client(self, kind: str, **keys: str) -> Any:
        keys = keys or {"aws_access_key_id": "root", "aws_secret_access_key": "root"}
        return boto3.client(kind, endpoint_url=self.url, region_name=REGION, **keys)

    def tell(self, path: str, text: str = "") -> None:
        """Tell the server something about itself."""
        told = urllib.request.Request(f"{self.url}/moto-api/{path}", text.encode(), {"content-type": "text/plain"})
        urllib.request.urlopen(told).read()

    def enforce(self, allowed_first: int) -> None:
        """Look at every request's rights from here on, but for so many."""
        self.tell("reset-auth", str(allowed_first))


@pytest.fixture
def store(shop: Place) -> Iterator[Store]:
    """The backup in a bucket. The production side has stopped: nothing of Litestream's own writes there any more."""
    shop.stop()
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    made = Store("http://{}:{}".format(*server.get_host_and_port()), {})
    try:
        made.tell("reset")
        made.enforce(10**6)
        bucket = made.client("s3")
        bucket.create_bucket(Bucket=BUCKET)
        for file in (shop.replica / "ltx").rglob("*.ltx"):
            key = f"{PREFIX}/{int(file.parent.name):04x}/{file.name}"
            bucket.put_object(Bucket=BUCKET, Key=key, Body=file.read_bytes())
        people = made.client("iam")
        people.create_user(UserName="sidecar")
        key = people.create_access_key(UserName="sidecar")["AccessKey"]
        made.user = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
        lines = shop.litestream_yml.read_text().partition("    replica:")[0]
        replica = f"{{type: s3, bucket: {BUCKET}, path: {PREFIX}, region: {REGION}, endpoint: '{made.url}', force-path-style: true}}"
        shop.litestream_yml.write_text(f"{lines}    replica: {replica}\n")
        yield made
    finally:
        made.enforce(10**6)
        server.stop()


def grant(store: Store, policy: dict[str, Any]) -> None:
    store.enforce(10**6)
    people = store.client("iam")
    people.put_user_policy(UserName="sidecar", PolicyName="backup", PolicyDocument=json.dumps(policy))
    store.enforce(0)


def ask(place: Place, store: Store, command: str, *more: object) -> Ran:
    keys = {name.upper(): value for name, value in store.user.items()}
    ran = place.sidecar(command, *more, env=keys)
    assert store.user["aws_secret_access_key"] not in ran.out + ran.err
    return ran


def test_the_right_to_list_and_read_the_store_is_enough(shop: Place, store: Store) -> None:
    policy = json.loads(POLICY)
    grant(store, policy)
    with pytest.raises(ClientError, match="AccessDenied"):
        store.client("s3", **store.user).put_object(Bucket=BUCKET, Key=f"{PREFIX}/0000/probe", Body=b"x")
    for command, *more in (["verify", "app"], ["restore", "app", "--to", shop.folder / "restored.db"]):
        ran = ask(shop, store, str(command), *more)
        assert ran.code == 0, (command, ran)
    assert "s3://app-backup/app can be listed" in ask(shop, store, "doctor").out


@pytest.mark.parametrize("without", ["s3:ListBucket", "s3:GetObject"])
def test_and_less_is_not_enough(shop: Place, store: Store, without: str) -> None:
    policy = copy.deepcopy(json.loads(POLICY))
    policy["Statement"] = [each for each in policy["Statement"] if each["Action"] != without]
    assert len(policy["Statement"]) == 1
    grant(store, policy)
    ran = ask(shop, store, "verify", "app")
    assert ran.code == 3, ran
    assert "the store refuses our credentials" in ran.out
