"""Where a replica is, as Litestream reads it: what is understood is listed where Litestream lists it, all else is left to Litestream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sidecar.adapters.litestream_v5 import LitestreamV5
from sidecar.adapters.replica_listing import LookLister
from sidecar.adapters.replica_listing.target import Folder, Prefix, Store, Target, target_of
from sidecar.core.model import Database
from tests.fakes import FakeClock
from tests.litestreams import App, Litestream, binary, environment, until
from tests.replica_stage import NEVER, QUICK, command, databases, of_command
from tests.stores import S3, serving

KEYS = "access-key-id: AK, secret-access-key: SK"
AWS = {"AWS_ACCESS_KEY_ID": "EAK", "AWS_SECRET_ACCESS_KEY": "ESK"}


def of(home: Path, replica: str, top: str = "", **env: str) -> Target | None:
    (database,) = databases(home, replica, top=top, **env)
    return target_of(database.replica, env)


def s3(**facts: str | bool) -> Prefix:
    known = {"endpoint": "", "region": "us-east-1", "bucket": "bkt", "path_style": True, "key_id": "AK", "secret": "SK"}
    path = str(facts.pop("path", "app"))
    return Prefix(Store(**(known | facts)), path)  # type: ignore[arg-type]


LOCAL = "http://127.0.0.1:9000"
UNDERSTOOD: tuple[tuple[str, Target], ...] = (
    (f"{{type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', {KEYS}}}", s3(endpoint=LOCAL)),
    (f"{{type: s3, bucket: bkt, path: a/bc/d, endpoint: '{LOCAL}/', {KEYS}}}", s3(endpoint=LOCAL, path="a/bc/d")),
    (f"{{type: s3, bucket: bkt, path: app, endpoint: 'minio.example:9000', {KEYS}}}", s3(endpoint="https://minio.example:9000")),
    (f"{{type: s3, bucket: bkt, path: app, region: eu-west-1, {KEYS}}}", s3(region="eu-west-1", path_style=False)),
    (f"{{type: s3, bucket: bkt, path: app, region: eu-west-1, force-path-style: true, {KEYS}}}", s3(region="eu-west-1")),
    (f"{{url: 's3://bkt/app?region=eu-west-1', {KEYS}}}", s3(region="eu-west-1", path_style=False)),
    (f"{{url: 's3://bkt/a//b/../app/', region: eu-west-1, {KEYS}}}", s3(region="eu-west-1", path_style=False, path="a/app")),
    (f"{{url: 's3://bkt/app?endpoint={LOCAL}', {KEYS}}}", s3(endpoint=LOCAL)),
    (f"{{url: 's3://bkt.127.0.0.1:9000/app', {KEYS}}}", s3(endpoint=LOCAL)),
    (f"{{type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', access-key-id: 0123, secret-access-key: 1e3}}", s3(endpoint=LOCAL, key_id="0123", secret="1e3")),
)  # fmt: skip


@pytest.mark.parametrize(("replica", "target"), UNDERSTOOD)
def test_it_is_understood(tmp_path: Path, replica: str, target: Target) -> None:
    assert of(tmp_path, replica) == target


def test_a_folder_is_where_the_file_says(tmp_path: Path) -> None:
    for block in (
        f"{{path: {tmp_path}/rep}}",
        f"{{type: file, path: {tmp_path}/rep}}",
        f"{{url: 'file://{tmp_path}/rep'}}",
    ):
        assert of(tmp_path, block) == Folder(f"{tmp_path}/rep")
        assert of(tmp_path, block, "access-key-id: AK\nsync-interval: 2s\n") == Folder(f"{tmp_path}/rep")


def test_the_top_level_fills_in(tmp_path: Path) -> None:
    top = f"access-key-id: AK\nsecret-access-key: SK\nbucket: bkt\nendpoint: {LOCAL}\nregion: eu-west-1\n"
    assert of(tmp_path, "{type: s3, path: app, region: us-east-1}", top) == s3(endpoint=LOCAL)


LEFT = (
    f"type: s3, bucket: bkt, path: app, {KEYS}",  # no region: Litestream asks where the bucket is
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', access-key-id: AK",  # the rest may stand anywhere
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}'",
    f"type: s3, bucket: bkt, endpoint: '{LOCAL}', {KEYS}",  # Litestream's keys then begin with a slash
    f"type: s3, bucket: bkt, path: /app, endpoint: '{LOCAL}', {KEYS}",
    f"type: s3, bucket: bkt, path: app/, endpoint: '{LOCAL}', {KEYS}",
    f"type: s3, bucket: bkt, path: a//b, endpoint: '{LOCAL}', {KEYS}",
    f"type: s3, bucket: bkt, path: a/../b, endpoint: '{LOCAL}', {KEYS}",
    f"type: s3, bucket: bkt, path: 'a*b', endpoint: '{LOCAL}', {KEYS}",
    f"type: s3, bucket: bkt, path: 'ä', endpoint: '{LOCAL}', {KEYS}",
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}/sub', {KEYS}",
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', force-path-style: false, {KEYS}",
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', sign-payload: false, {KEYS}",
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', skip-verify: true, {KEYS}",
    f"type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}', sse-kms-key-id: k, {KEYS}",
    f"type: s3, bucket: bkt, path: app, endpoint: 'https://storage.googleapis.com', {KEYS}",
    f"type: s3, bucket: b--use1-az4--x-s3, path: app, region: us-east-1, {KEYS}",
    f"url: 's3://bkt', region: eu-west-1, {KEYS}",
    f"url: 's3://bkt/app?skipVerify=true', region: eu-west-1, {KEYS}",
    f"url: 's3://bkt/app?endpoint=127.0.0.1:9000', {KEYS}",
    f"url: 's3://bkt.nyc3.digitaloceanspaces.com/app', {KEYS}",
    f"url: 's3://bkt.s3.eu-west-1.amazonaws.com/app', {KEYS}",
    f"url: 's3://arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/app', {KEYS}",
    "type: sftp, host: 127.0.0.1, user: u, path: /app",
    "type: gs, bucket: bkt, path: app",
)  # fmt: skip


@pytest.mark.parametrize("replica", LEFT)
def test_it_is_left_to_litestream(tmp_path: Path, replica: str) -> None:
    assert of(tmp_path, f"{{{replica}}}") is None


@pytest.mark.parametrize("top", ["skip-verify: true\n", "sign-payload: true\n", "force-path-style: false\n"])
def test_so_is_what_the_top_level_asks_for(tmp_path: Path, top: str) -> None:
    assert of(tmp_path, UNDERSTOOD[0][0], top) is None


BARE = f"{{type: s3, bucket: bkt, path: app, endpoint: '{LOCAL}'}}"
LITESTREAM = {"LITESTREAM_ACCESS_KEY_ID": "LAK", "LITESTREAM_SECRET_ACCESS_KEY": "LSK"}


@pytest.mark.parametrize(
    ("replica", "env", "keys"),
    [
        (BARE, AWS, ("EAK", "ESK", "")),
        (BARE, AWS | {"AWS_SESSION_TOKEN": "ETOKEN"}, ("EAK", "ESK", "ETOKEN")),
        (BARE, LITESTREAM, ("LAK", "LSK", "")),
        (BARE, LITESTREAM | AWS, ("EAK", "ESK", "")),
        (BARE, LITESTREAM | {"AWS_ACCESS_KEY_ID": "EAK"}, ("EAK", "LSK", "")),
        (BARE, LITESTREAM | {"AWS_ACCESS_KEY_ID": ""}, None),
        (UNDERSTOOD[0][0], AWS | {"AWS_SESSION_TOKEN": "ETOKEN"}, ("AK", "SK", "")),
        (UNDERSTOOD[0][0], {"AWS_REGION": "eu-west-1"}, ("AK", "SK", "")),
        (UNDERSTOOD[0][0], {"AWS_PROFILE": "other"}, None),
        (UNDERSTOOD[0][0], {"AWS_ENDPOINT_URL": LOCAL}, None),
        (UNDERSTOOD[0][0], {"AWS_ROLE_ARN": "arn"}, None),
        (UNDERSTOOD[0][0], {"AWS_CA_BUNDLE": "/ca.pem"}, None),
        (UNDERSTOOD[0][0], {"HTTPS_PROXY": "http://proxy:1"}, None),
        (UNDERSTOOD[0][0], {"http_proxy": "http://proxy:1"}, None),
    ],
)
def test_credentials_are_those_that_litestream_would_use(
    tmp_path: Path, replica: str, env: dict[str, str], keys: tuple[str, str, str] | None
) -> None:
    found = of(tmp_path, replica, HOME=str(tmp_path), **env)
    if keys is None:
        assert found is None
        return
    assert isinstance(found, Prefix)
    assert (found.store.key_id, found.store.secret, found.store.token) == keys
    assert not [word for word in keys if word and word in f"{found} {found!r}"]


@pytest.mark.parametrize("name", ["config", "credentials"])
def test_a_shared_aws_configuration_is_litestreams_to_read(tmp_path: Path, name: str) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / name).touch()
    assert of(tmp_path, UNDERSTOOD[0][0], HOME=str(tmp_path)) is None


@pytest.mark.parametrize(
    "config", ["", "dbs: []", "dbs: [{path: /a}]", "dbs: [1, 2]", "[", "dbs: [{replica: {path: ~}}]", "x"]
)
def test_a_text_of_another_shape_is_left_to_litestream(tmp_path: Path, config: str) -> None:
    (database,) = databases(tmp_path, f"{{path: {tmp_path}/rep}}")
    assert target_of(replace(database.replica, config=config), {}) is None


# The same place as Litestream's own


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A store with a replica at `a/app+1.db`."""
    home = tmp_path_factory.mktemp("s3")
    with serving("s3", home / "store") as server:
        assert isinstance(server, S3)
        (found,) = databases(home, server.replica("a/app+1.db"), top=QUICK)
        app = App(Path(found.path))
        app.write()
        running = Litestream(home / "litestream.yml").start()
        try:
            until(lambda: any(each.level == 9 for each in of_command(found)), say="a snapshot")
        finally:
            running.stop()
            app.close()
        yield server


FORMS = (
    ("{{type: s3, bucket: bkt, path: a/app+1.db, endpoint: 'http://{at}', {keys}}}", ()),
    ("{{type: s3, bucket: bkt, path: a/app+1.db, endpoint: 'http://{at}', region: eu-west-1, {keys}}}", ()),
    ("{{url: 's3://bkt/a/app+1.db?endpoint=http://{at}', {keys}}}", ()),
    ("{{url: 's3://bkt/a/x/..//app%2B1.db/?endpoint=http%3A%2F%2F{at}&forcePathStyle=true', {keys}}}", ()),
    ("{{url: 's3://bkt.{at}/a/app+1.db', {keys}}}", ()),
    ("{{type: s3, bucket: bkt, path: a/app+1.db, endpoint: 'http://{at}'}}", ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
    ("{{type: s3, bucket: bkt, path: a/app+1.db, endpoint: 'http://{at}'}}", ("LITESTREAM_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")),
)  # fmt: skip


@pytest.mark.parametrize(("form", "variables"), FORMS)
def test_every_form_leads_to_the_place_that_litestream_lists(
    store: S3, tmp_path: Path, form: str, variables: tuple[str, ...]
) -> None:
    keys = f"access-key-id: AKIDEXAMPLE, secret-access-key: {store.password}"
    env = dict(zip(variables, ("AKIDEXAMPLE", store.password), strict=False)) | {"HOME": str(tmp_path)}
    (database,) = databases(tmp_path, form.format(at=store.at, keys=keys), **env)
    who = LookLister(command(), FakeClock(), environment(**env))
    assert who.listed(database, holds=None, timeout_s=30, stop=NEVER).files == said(database, env) != ()
    assert who.requests.read() == {"direct": 1, "litestream": 0}


def said(database: Database, env: dict[str, str]) -> object:
    files = LitestreamV5(binary(), "0.5.17", environment(**env)).list_files(database, timeout_s=30, stop=NEVER)
    return tuple(sorted(files, key=lambda each: (each.level, each.first.index, each.last.index)))
