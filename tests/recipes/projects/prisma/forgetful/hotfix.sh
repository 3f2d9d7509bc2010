#!/bin/sh
# The hot fix of last night, typed into a shell instead of a migration.
set -eu
prisma migrate deploy
sqlite3 "${DATABASE_URL#file:}" <<'SQL'
alter table orders add column note text not null default '';
SQL
