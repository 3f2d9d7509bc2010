"""Django, Alembic, yoyo, plain SQL, Knex, Drizzle and Prisma behind the gate: what holds passes, what does not can be taken back."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faces.commands import Ran
from tests.recipes.frameworks import FRAMEWORKS, Framework
from tests.recipes.place import App, Place, sha256
from tests.recipes.snippets import recipe

each_framework = pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
# What the next migration does wrong, and the check that says so.
FAULTS = {
    "losing": ("identity", "shrunk", "{2} has 20 rows of 360"),
    "orphaning": ("database", "assertion_failed", "{1} -> {0} in 15 rows"),
    "forgetful": ("schema", "version_differs", "the schema changed and its version is still {version}"),
}
# Each framework does one kind of harm, and each kind is done by two at least: what finds it knows nothing of the framework.
HARM = [(each, list(FAULTS)[number % len(FAULTS)]) for number, each in enumerate(FRAMEWORKS)]
PASSED = {"identity": ("pass", None), "database": ("pass", None), "schema": ("pass", None)}


@dataclass(frozen=True)
class Deploy:
    """One deploy of one framework's alternative, beside an app that committed just before."""

    place: Place
    framework: Framework
    alternative: str

    @property
    def app(self) -> App:
        assert self.place.app is not None
        return self.place.app

    @property
    def command(self) -> list[str]:
        return self.framework.migrate(self.place.database, self.alternative)

    def __post_init__(self) -> None:
        self.framework.lay(self.alternative, self.place)
        self.app.execute(f"insert into {self.framework.tables[0]} (name) values ('the last one before the deploy')")

    def gate(self, *more: str) -> Ran:
        """Gate, migrate, postcheck."""
        env = self.framework.env(self.place.database)
        return self.place.sidecar("gate", "app", *more, "--", *self.command, env=env)

    def rehearse(self, *more: str) -> Ran:
        """The same command, with the copy in place of production; the environment goes on naming production."""
        name, template = self.framework.variable
        if name == "DATABASE_URL":
            more = (*more, "--database-url", template)
        elif name:
            more = (*more, "--env", f"{name}={template}")
        command = self.framework.migrate("{db}", self.alternative)
        env = self.framework.env(self.place.database)
        return self.place.sidecar("rehearse", "app", *more, "--", *command, env=env)

    def goes_back_to(self, before: list[str]) -> None:
        """Do what the receipt says: the old data is there again, byte for byte, and the app works on it."""
        _, receipt = self.place.receipt()
        (entry,) = receipt["databases"]
        self.place.stop()
        ran = self.place.run(*shlex.split(entry["rollback"]["command"]), env=self.place.environment)
        assert ran.code == 0, ran
        database = self.place.database
        assert sha256(database) == entry["rollback"]["artifact_sha256"]
        assert Path(entry["rollback"]["artifact"]).read_bytes() == database.read_bytes()
        assert [each.name for each in database.parent.glob("app.db-*")] == []
        self.place.app = App(database)
        assert self.app.execute("pragma integrity_check") == [["ok"]]
        assert self.app.dump() == before


Deploying = Callable[[Framework, str], Deploy]


@pytest.fixture
def deploying(place_of: Callable[[Framework], Place]) -> Deploying:
    return lambda framework, alternative: Deploy(place_of(framework), framework, alternative)


def checks(document: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    (database,) = document["databases"]
    return {each["name"]: (each["status"], each["reason"]) for each in database["checks"]}


@each_framework
def test_readme_shows_the_commands_that_are_run_here(framework: Framework) -> None:
    words = [each for each in framework.command if re.fullmatch(r"[a-z]+(-[a-z]+)?(\.py|\.sh|:latest)?", each)]
    own = next(each for each in words if each not in {"python", "sh"})
    (row,) = [line for line in recipe("Migration frameworks").splitlines() if own in line and line.startswith("|")]
    _, _, gated, rehearsed, _ = row.split("|")
    for said in (gated, rehearsed):
        assert all(each in said for each in words[words.index(own) :]), (words, said)
    name, template = framework.variable
    if name == "DATABASE_URL":
        assert f"--database-url '{template}'" in rehearsed
    elif name:
        assert f"--env '{name}={template}'" in rehearsed


@each_framework
def test_a_good_migration_passes_and_the_backup_covers_it_again(framework: Framework, deploying: Deploying) -> None:
    deploy = deploying(framework, "good")
    ran = deploy.gate()
    assert ran.code == 0, ran
    assert "HELD  deployed, intact, and covered by the backup again" in ran.out
    assert f"version {framework.versions[0]} -> {framework.versions[1]}" in ran.out
    _, receipt = deploy.place.receipt()
    (entry,) = receipt["databases"]
    assert entry["schema_version"] == {"source": framework.source, "value": framework.versions[0]}
    assert [entry["tables"][name] for name in framework.tables] == [41, 120, 360]
    assert sha256(Path(entry["rollback"]["artifact"])) == entry["rollback"]["artifact_sha256"]
    restored = deploy.place.folder / "restored.db"
    assert deploy.place.sidecar("restore", "app", "--to", restored).code == 0
    there = App(restored)
    assert there.dump() == deploy.app.dump()
    there.stop()


@each_framework
def test_a_failing_migration_keeps_its_exit_code_and_can_be_taken_back(
    framework: Framework, deploying: Deploying
) -> None:
    deploy = deploying(framework, "failing")
    before = deploy.app.dump()
    ran = deploy.gate()
    assert ran.code == framework.failure, ran
    assert f"DID NOT HOLD  {deploy.command[0]} failed with exit code {framework.failure}" in ran.out
    assert f"litestream-sidecar rollback --receipt {deploy.place.receipt()[0]}" in ran.out
    deploy.goes_back_to(before)


@pytest.mark.parametrize(("framework", "fault"), HARM, ids=[f"{fault}-{each.name}" for each, fault in HARM])
def test_a_migration_that_ends_well_and_does_harm_is_caught_and_can_be_taken_back(
    framework: Framework, fault: str, deploying: Deploying
) -> None:
    check, reason, sentence = FAULTS[fault]
    deploy = deploying(framework, fault)
    before = deploy.app.dump()
    ran = deploy.gate("--json")
    assert ran.code == 1, ran
    document = ran.document
    assert (document["ready"], document["retryable"]) == (False, False)
    assert checks(document) == PASSED | {check: ("fail", reason)}
    assert sentence.format(*framework.tables, version=framework.versions[0]) in document["reason"]
    deploy.goes_back_to(before)


REHEARSED = [*((each, "good") for each in FRAMEWORKS), *((each, "losing") for each in FRAMEWORKS[::3])]


@pytest.mark.parametrize(("framework", "alternative"), REHEARSED, ids=[f"{how}-{each.name}" for each, how in REHEARSED])
def test_a_rehearsal_tells_good_from_bad_and_leaves_production_alone(
    framework: Framework, alternative: str, deploying: Deploying
) -> None:
    deploy = deploying(framework, alternative)
    deploy.place.stop_litestream()
    production = deploy.place.fingerprint()
    ran = deploy.rehearse("--json")
    assert deploy.place.fingerprint() == production
    assert ran.code == (0 if alternative == "good" else 1), ran
    wrong = {(each["name"], each["reason"]) for each in ran.document["checks"] if each["status"] == "fail"}
    assert wrong == (set() if alternative == "good" else {("identity", "shrunk")})
    version = ran.document["changes"]["schema_version"]
    assert version["before"] == {"source": framework.source, "value": framework.versions[0]}
    assert version["after"] != version["before"]
