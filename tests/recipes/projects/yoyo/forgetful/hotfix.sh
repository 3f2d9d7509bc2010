#!/bin/sh
# The hot fix of last night, typed into a shell instead of a migration.
set -eu
yoyo apply --batch --no-config-file --database "sqlite:///$1" migrations
sqlite3 "$1" <<'SQL'
alter table orders add column note text not null default '';
SQL
