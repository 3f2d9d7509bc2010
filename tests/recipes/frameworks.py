"""The migration frameworks, each with its own command and a small project of its own under `projects/`.

`base` makes customers, orders and items with foreign keys and 520 rows; every other folder is laid over it and holds the next
migration: `good`, `failing` (midway), `losing` (most rows of one table), `orphaning` (parents of rows that stay) and
`forgetful` (the schema changes and the framework records nothing).
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.recipes.place import App, Place
from tests.recipes.tools import node_modules

PROJECTS = Path(__file__).with_name("projects")


@dataclass(frozen=True)
class Framework:
    """How one framework migrates. `{db}` is the database's path."""

    name: str
    command: tuple[str, ...]  # the framework's own
    source: str  # where it records its version
    versions: tuple[str, str]  # before and after the next migration
    variable: tuple[str, str] = ("", "")  # the environment variable that says where the database is
    forgetting: tuple[str, ...] = ()  # another command than `command`
    tables: tuple[str, str, str] = ("customers", "orders", "items")
    failure: int = 1  # exit code of a failing migration

    def migrate(self, database: Path | str, alternative: str = "") -> list[str]:
        """The command that migrates this database."""
        command = (alternative == "forgetful" and self.forgetting) or self.command
        return [each.replace("{db}", str(database)) for each in command]

    def env(self, database: Path | str) -> dict[str, str]:
        """The environment that it needs for this database."""
        name, value = self.variable
        return ({name: value.replace("{db}", str(database))} if name else {}) | QUIET

    def lay(self, alternative: str, place: Place) -> None:
        """Lay the alternative's files over the project."""
        shutil.copytree(PROJECTS / self.name / alternative, place.project, dirs_exist_ok=True)


# Prisma's schema engine is WebAssembly inside its package; its CLI looks for two binaries all the same, and never runs them.
QUIET = {
    "PRISMA_QUERY_ENGINE_LIBRARY": "/bin/true", "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true",
    "PRISMA_HIDE_UPDATE_MESSAGE": "1", "CHECKPOINT_DISABLE": "1", "NO_COLOR": "1", "CI": "1",
}  # fmt: skip
SQLALCHEMY_URL = ("DATABASE_URL", "sqlite:///{db}")
LIBSQL_URL = ("DATABASE_URL", "file:{db}")

FRAMEWORKS = (
    Framework(
        "django", ("python", "manage.py", "migrate", "--run-syncdb"), "django_migrations",
        ("0001_initial", "0002_coupon"), SQLALCHEMY_URL, tables=("shop_customer", "shop_order", "shop_item"),
    ),
    Framework("alembic", ("alembic", "upgrade", "head"), "alembic_version", ("0001", "0002"), SQLALCHEMY_URL),
    Framework(
        "yoyo", ("yoyo", "apply", "--batch", "--no-config-file", "--database", "sqlite:///{db}", "migrations"),
        "_yoyo_migration", ("0001.initial", "0002.coupons"), forgetting=("sh", "hotfix.sh", "{db}"),
    ),
    Framework("sql", ("sh", "migrate.sh", "{db}"), "user_version", ("1", "2"), failure=17),
    Framework(
        "knex", ("knex", "migrate:latest"), "knex_migrations", ("0001_initial.js", "0002_coupons.js"),
        ("DATABASE_FILE", "{db}"),
    ),
    Framework(
        "drizzle", ("drizzle-kit", "migrate"), "__drizzle_migrations", ("1788000000000", "1788000000001"), LIBSQL_URL,
        forgetting=("drizzle-kit", "push", "--force"),
    ),
    Framework(
        "prisma", ("prisma", "migrate", "deploy"), "_prisma_migrations",
        ("20260101000000_initial", "20260201000000_next"), LIBSQL_URL,
    ),
)  # fmt: skip
OF_NPM = {"knex", "drizzle", "prisma"}
SQL = next(each for each in FRAMEWORKS if each.name == "sql")


def initial(framework: Framework, folder: Path) -> Place:
    """A project whose first migration has run, in WAL mode and replicated; nothing runs any more."""
    place = Place(folder)
    framework.lay("base", place)
    if framework.name in OF_NPM:
        (place.project / "node_modules").symlink_to(node_modules())
    App(place.database).stop()
    ran = place.run(*framework.migrate(place.database), env=framework.env(place.database))
    assert ran.code == 0, ran
    place.start()
    place.stop()
    return place
