"""sidecar.yml: the contract's sample is taken key by key, and every mistake comes back in one sentence with its line."""

from __future__ import annotations

import os
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import pytest

from sidecar.core.errors import ConfigError, EnvironmentProblem
from sidecar.core.policy import Assertion, Policy
from sidecar.core.settings_model import Listen, VerifierSettings, parse_listen
from sidecar.settings import Settings, read

ENV = {"HOME": "/home/app"}
SAMPLE = """
litestream:
  binary: litestream          # name or path
  socket: null                # default: what litestream.yml says
  metrics-url: null           # default: from litestream.yml's addr
  command-timeout: 60s
http:
  listen: 127.0.0.1:9810      # host:port, or unix:/run/litestream-sidecar.sock
  token-file: null            # bearer token; required for POST when listening beyond loopback
scratch-dir: null             # default: <state-dir>/scratch
policy:
  look-every: 1m              # how often the replica is listed
  max-lag: 2m                 # oldest commit that the replica may lack
  max-snapshot-age: 30h       # counted only while the database changes
  drill-every: 6h
  drill-max-age: 24h
  drill-timeout: 30m
  audit-every: 7d             # a drill with integrity_check
  database-check-every: 6h    # quick_check of production's content
  parity: true
  max-shrink: 50%             # rows, tables or pages lost since the last passed drill
  schema-version: auto        # auto | user_version | SQL returning one value
"""
OWN = """
  assertions:                 # SQL on the restored copy; one row, one value
    - {name: has-users, sql: "select count(*) from users", min: 1}
databases:                    # only what differs; key = name
  app: {path: /data/app.db, policy: {max-lag: 30s}}
resources: {drills: 2, looks: 8, nice: 5, scratch-max: 10GB, requests-per-day: 50000}
notify: {heartbeat-url: 'https://h/TOKENTOKEN', webhook-url: 'https://h/HOOKHOOK'}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "sidecar.yml"
    path.write_text(text)
    return path


def refusal(path: Path, **overrides: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(path, ENV, {key.replace("__", ".").replace("_", "-"): value for key, value in overrides.items()})
    assert caught.value.hint
    assert caught.value.exit_code == 2
    return caught.value


def test_the_sample_of_the_contract_is_the_default(tmp_path: Path) -> None:
    assert read(write(tmp_path, SAMPLE), ENV) == read(None, ENV) == read(write(tmp_path, ""), ENV)
    assert read(write(tmp_path, "policy:\nhttp: ~\n# nothing"), ENV) == read(None, ENV)
    assert read(None, ENV).policy == Policy()


def test_what_differs_is_taken_and_secrets_never_show(tmp_path: Path) -> None:
    settings = read(write(tmp_path, SAMPLE + OWN), ENV)
    assert settings.policy.assertions == (Assertion(name="has-users", sql="select count(*) from users", min=1),)
    assert settings.policy_for("app").max_lag == timedelta(seconds=30)
    assert settings.policy_for("app").assertions == settings.policy.assertions
    assert settings.policy_for("other") is settings.policy
    assert settings.aliases == {"/data/app.db": "app"}
    resources = settings.resources
    assert (resources.drills, resources.looks, resources.nice, resources.scratch_max) == (2, 8, 5, 10**10)
    assert resources.requests_per_day == 50_000
    assert settings.notify.heartbeat_url == "https://h/TOKENTOKEN"
    assert "TOKENTOKEN" not in repr(settings)
    assert "HOOKHOOK" not in repr(settings)


def test_every_threshold_can_be_set_and_overridden_for_one_database(tmp_path: Path) -> None:
    values = {
        "look-every": "2m", "look-at-rest-every": "20m", "max-lag": "3m", "max-snapshot-age": "31h", "drill-every": "5h", "drill-max-age": "1d1h",
        "drill-timeout": "45m", "audit-every": "8d", "skip-proved": "no", "drill-by-change-from": "2GB", "database-check-every": "7h", "parity": "no",
        "parity-every": "2d", "max-shrink": "0.25", "production": "no",
        "schema-version": "select max(v) from versions", "assertions": "[{name: a, sql: select 1, equals: yes please}]",
    }  # fmt: skip
    assert set(values) == {each.name.replace("_", "-") for each in fields(Policy)}
    lines = "".join(f"    {key}: {value}\n" for key, value in values.items())
    own = read(write(tmp_path, f"databases:\n  app:\n   policy:\n{lines}"), ENV)
    everywhere = read(write(tmp_path, f"policy:\n{lines}"), ENV)
    assert own.policy == Policy()
    assert own.policy_for("app") == everywhere.policy
    assert everywhere.policy == Policy(
        look_every=timedelta(minutes=2), look_at_rest_every=timedelta(minutes=20), max_lag=timedelta(minutes=3), max_snapshot_age=timedelta(hours=31),
        drill_every=timedelta(hours=5), drill_max_age=timedelta(hours=25), drill_timeout=timedelta(minutes=45),
        audit_every=timedelta(days=8), skip_proved=False, drill_by_change_from=2_000_000_000, database_check_every=timedelta(hours=7), parity=False,
        parity_every=timedelta(days=2), max_shrink=0.25, production=False,
        schema_version="select max(v) from versions", assertions=(Assertion(name="a", sql="select 1", equals="yes please"),),
    )  # fmt: skip


def test_where_state_and_scratch_are(tmp_path: Path) -> None:
    at_home = "/home/app/.local/state/litestream-sidecar"
    usual = "/var/lib/litestream-sidecar" if os.geteuid() == 0 else at_home
    assert str(read(None, ENV).state_dir) == usual
    assert str(read(None, ENV).scratch) == f"{usual}/scratch"
    by_env = read(None, {**ENV, "LITESTREAM_SIDECAR_STATE_DIR": "/e"})
    assert (str(by_env.state_dir), str(by_env.scratch)) == ("/e", "/e/scratch")
    assert str(read(None, {**ENV, "LITESTREAM_SIDECAR_STATE_DIR": "/e"}, {"state-dir": Path("/o")}).state_dir) == "/o"
    own = read(write(tmp_path, "scratch-dir: s\nhttp: {token-file: /etc/token}"), ENV)
    assert (own.scratch, own.http.token_file) == (tmp_path / "s", Path("/etc/token"))


def test_a_home_that_nobody_knows_is_one_sentence() -> None:
    place = "~nobody-of-that-name"
    with pytest.raises(EnvironmentProblem, match="~nobody-of-that-name: that home directory is not known here"):
        read(None, {**ENV, "LITESTREAM_SIDECAR_STATE_DIR": place})
    with pytest.raises(EnvironmentProblem, match="that home directory is not known here"):
        read(None, ENV, {"state-dir": place})


def test_an_option_wins_over_the_file_and_is_named_in_its_own_mistake(tmp_path: Path) -> None:
    path = write(tmp_path, "http: {listen: 127.0.0.1:1}\npolicy: {max-lag: 1h}")
    settings = read(path, ENV, {"http.listen": "[::1]:0", "policy.drill-every": "5s", "litestream.binary": None})
    assert settings.http.listen == Listen("::1", 0)
    assert settings.policy.drill_every == timedelta(seconds=5)
    assert settings.policy.max_lag == timedelta(hours=1)
    sentence = "`9810` is no address; write `127.0.0.1:9810` or `unix:/run/litestream-sidecar.sock`"
    assert refusal(path, http__listen="9810").message == f"{path}: http.listen: {sentence}"
    assert path.read_text().startswith("http: {listen: 127.0.0.1:1}")


LISTENS = [
    ("127.0.0.1:9810", Listen("127.0.0.1", 9810), True), ("127.8.8.8:1", Listen("127.8.8.8", 1), True),
    ("[::1]:80", Listen("::1", 80), True), ("localhost:80", Listen("localhost", 80), True),
    ("unix:/run/x.sock", Listen("", 0, "/run/x.sock"), True), ("0.0.0.0:80", Listen("0.0.0.0", 80), False),
    ("[::]:80", Listen("::", 80), False), ("host.internal:80", Listen("host.internal", 80), False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "listen", "local"), LISTENS, ids=[each[0] for each in LISTENS])
def test_listen(text: str, listen: Listen, local: bool) -> None:  # noqa: FBT001 - a column of the table
    assert parse_listen(text) == listen
    assert str(listen) == text
    settings = read(None, ENV, {"http.listen": text})
    assert settings.http.listen.is_local is local
    assert settings.http.post_needs_token is not local
    assert read(None, ENV, {"http.listen": text, "http.token-file": "/t"}).http.post_needs_token
    assert parse_listen(":80") == Listen("0.0.0.0", 80)


WRONG = [
    ("polcy: {}", "polcy: is not a setting; did you mean `policy`? (line 1)"),
    ("policy:\n  max-lagg: 2m", "policy.max-lagg: is not a setting; did you mean `max-lag`? (line 2)"),
    ("policy:\n  max_lag: 2m", "policy.max_lag: is not a setting; did you mean `max-lag`? (line 2)"),
    ("max-lag: 2m", "max-lag: is not a setting here; it belongs under `policy:` (line 1)"),
    ("state-dir: /x", "state-dir: is not a setting; did you mean `scratch-dir`? (line 1)"),
    ("notify: {slack: x}", "notify.slack: is not a setting; known here: heartbeat-url, webhook-url (line 1)"),
    ("notify: {webhook-url: TOKENTOKEN}",
     "notify.webhook-url: must be a URL that begins with `http://` or `https://` (line 1)"),
    ("notify: {webhook-url: 'http:///TOKENTOKEN'}",
     "notify.webhook-url: must be a URL that begins with `http://` or `https://` (line 1)"),
    ("policy: {max-lag: 5}", "policy.max-lag: `5` has no unit; write `5s`, `5m` or `5h` (line 1)"),
    ("policy: {max-lag: 5 minutes}",
     "policy.max-lag: `5 minutes` is not a duration; write one like `30s`, `5m`, `1h30m` or `7d` (line 1)"),
    ("policy: {max-lag: 1s}", "policy.max-lag: must be `2s` or longer: Litestream syncs once a second (line 1)"),
    ("policy: {max-lag: -5m}",
     "policy.max-lag: `-5m` is not a duration; write one like `30s`, `5m`, `1h30m` or `7d` (line 1)"),
    ("policy: {max-lag: [1]}", "policy.max-lag: must be text (line 1)"),
    ("policy: {audit-every: 0s}", "policy.audit-every: must be longer than nothing, such as `7d` (line 1)"),
    ("policy: {audit-every: 99999999d}", "policy.audit-every: `99999999d` is longer than a hundred years (line 1)"),
    ("policy: {look-every: 10ms}", "policy.look-every: must be `1s` or longer: each look lists the replica (line 1)"),
    ("policy:\n  drill-every: 48h\n",
     "policy.drill-max-age: is shorter than drill-every (1d < 2d): the proof would lapse before the next drill (line 1)"),
    ("policy: {parity: maybe}", "policy.parity: must be true or false (line 1)"),
    ("policy: {max-shrink: 50}", "policy.max-shrink: `50` is not between 0% and 100%; write one like `50%` (line 1)"),
    ("policy: {max-shrink: half}", "policy.max-shrink: `half` is not a share; write one like `50%` (line 1)"),
    ("policy: {schema-version: flyway}",
     "policy.schema-version: must be `auto`, `user_version` or SQL that returns one value (line 1)"),
    ("policy: {assertions: {name: a}}", "policy.assertions: must be a list: entries that begin with `- ` (line 1)"),
    ("policy:\n  assertions:\n  - name: a\n    sql: select 1",
     "policy.assertions[0]: needs a bound: `min`, `max` or `equals` (line 3)"),
    ("policy:\n  assertions:\n  - {name: a, sql: x, min: 1}\n  - {name: a, sql: ' ', min: 2, max: 1}",
     ("policy.assertions[1].name: `a` is there twice (line 4); policy.assertions[1].sql: must not be empty (line 4); "
     "policy.assertions[1].min: is more than `max` (line 4)")),
    ("policy:\n  assertions:\n  - {sql: x, equals: true}",
     ("policy.assertions[0].name: is missing (line 3); policy.assertions[0].equals: must be text or a number; SQLite says "
     "1 for true and 0 for false (line 3)")),
    ("policy: [1]", "policy: must hold keys below it, further to the right (line 1)"),
    ("databases: [app]", "databases: must hold one key per database, its name (line 1)"),
    ("databases:\n  my_app: {path: data/app.db, policy: {max-lag: 1s}}",
     ("databases.my_app.policy.max-lag: must be `2s` or longer: Litestream syncs once a second (line 2); "
     "databases.my_app.path: must be absolute, as Litestream knows the database (line 2)")),
    ("databases:\n  a: {path: /x}\n  b: {path: /x}", "databases.b.path: is already named `a` (line 3)"),
    ("resources: {drills: 0, looks: true, nice: 20, scratch-max: lots}",
     ("resources.looks: must be a whole number (line 1); "
     "resources.scratch-max: `lots` is not a size; write one like `500MB` or `10GiB` (line 1); "
     "resources.drills: must be between 1 and 64 (line 1); resources.nice: must be between 0 and 19 (line 1)")),
    ("resources: {requests-per-day: 0}", "resources.requests-per-day: must be 1 or more, or `null` for no limit (line 1)"),
    ("resources: {requests-per-day: many}", "resources.requests-per-day: must be a whole number (line 1)"),
    ("litestream: {binary: 5, command-timeout: 4m}",
     ("litestream.binary: must be text; put it in quotes (line 1); litestream.command-timeout: is longer than look-every and "
     "2m (3m): a listing would be old when it arrives (line 1)")),
    ("http: {listen: 9810}",
     "http.listen: `9810` is no address; write `127.0.0.1:9810` or `unix:/run/litestream-sidecar.sock` (line 1)"),
    ("http: {listen: 'unix:x.sock'}",
     "http.listen: `unix:x.sock` needs an absolute path, as in `unix:/run/litestream-sidecar.sock` (line 1)"),
    ("http: {token-file: ~root/x}",
     "http.token-file: begins with `~`; write your own home folder as `~/`, any other in full (line 1)"),
    ("policy: {max-lag: 3m}\nhttp: {}\npolicy: {parity: no}", "policy: is there twice; keep one (line 3)"),
    ("- a", "must hold keys such as `policy:` (line 1)"),
    ("a: {}\n---\nb: {}", "holds a second document (line 3)"),
    ("a: b: c", "is not valid YAML: mapping values are not allowed here (line 1)"),
    ("a: " + "[" * 3000, "is not valid YAML"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "sentence"), WRONG, ids=[each[1][:50] for each in WRONG])
def test_every_mistake_is_one_sentence_with_its_place_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)
    error = refusal(path)
    assert error.message == f"{path}: {sentence}"
    assert "TOKENTOKEN" not in error.message


def test_all_mistakes_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "litestream: {binry: x}\nhttp: {listen: x}\npolicy:\n  max-lag: 1s\n  drill-every: x\n  bogus: 1\n"
        "databases:\n  app: {policy: {look-evry: 1m}}\nresources: {drills: 99}\n",
    )
    assert [(each.field, each.line) for each in refusal(path).mistakes] == [
        ("litestream.binry", 1), ("http.listen", 2), ("policy.max-lag", 4), ("policy.drill-every", 5), ("policy.bogus", 6),
        ("databases.app.policy.look-evry", 8), ("resources.drills", 9),
    ]  # fmt: skip


def test_a_mistake_in_the_general_policy_is_not_repeated_for_each_database(tmp_path: Path) -> None:
    path = write(tmp_path, "policy: {max-lag: 1s}\ndatabases: {a: {policy: {parity: no}}, b: {}}")
    assert [each.field for each in refusal(path).mistakes] == ["policy.max-lag"]


def test_a_missing_or_unreadable_file_is_one_sentence(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.yml").message == f"{tmp_path}/no.yml: there is no such file"
    assert refusal(tmp_path).message == f"{tmp_path}: cannot be read: Is a directory"
    (tmp_path / "b.yml").write_bytes(b"\xff")
    assert refusal(tmp_path / "b.yml").message == f"{tmp_path}/b.yml: is not UTF-8 text"


def test_settings_can_be_made_without_a_file() -> None:
    assert Settings(state_dir=Path("/s")).scratch == Path("/s/scratch")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://user:SEKRET@far:9810", "must hold no user and no password"),
        ("https://SEKRET@far:9810", "must hold no user and no password"),
        ("far:9810", "must be a URL"),
        ("ftp://far", "must be a URL"),
        ("http://far:99999", "cannot be read"),
        ("http://[far", "cannot be read"),
        ("http://far:9810/?token=SEKRET", "would be lost"),
        ("unix:relative", "must be a URL"),
    ],
)
def test_a_verifier_is_a_url_without_userinfo_and_no_secret_is_repeated(tmp_path: Path, url: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(write(tmp_path, f"verifier: {{url: '{url}'}}"), ENV)
    assert str(refused.value).count("verifier.url") == 1
    assert says in str(refused.value)
    assert "SEKRET" not in str(refused.value)


def test_a_verifier_and_its_token(tmp_path: Path) -> None:
    assert read(None, ENV).verifier == VerifierSettings()
    for url in ("http://far:9810", "https://far/under", "unix:/run/v.sock", "http://[::1]:9810"):
        own = read(write(tmp_path, f"verifier: {{url: '{url}', token-file: t}}"), ENV)
        assert (own.verifier.url, own.verifier.token_file) == (url, tmp_path / "t")
    with pytest.raises(ConfigError, match=r"verifier\.token-file: is for `verifier\.url`, which is not set"):
        read(write(tmp_path, "verifier: {token-file: t}"), ENV)
