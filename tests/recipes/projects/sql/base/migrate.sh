#!/bin/sh
# Applies what is newer than PRAGMA user_version, in order; each file sets its own number at its end.
set -eu
for file in migrations/*.sql; do
    number=$(basename "$file" | sed 's/^0*//; s/[^0-9].*//')
    [ "$number" -gt "$(sqlite3 "$1" 'pragma user_version')" ] || continue
    echo "$file"
    sqlite3 -bail "$1" <"$file" || exit 17
done
