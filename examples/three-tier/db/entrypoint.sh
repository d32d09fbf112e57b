#!/bin/sh
# Creates the database cluster on the first start, then becomes the server.
# Needs POSTGRES_PASSWORD; POSTGRES_USER and POSTGRES_DB have defaults.
set -eu

: "${POSTGRES_PASSWORD:?is not set: the database needs a password}"
user="${POSTGRES_USER:-postgres}"
database="${POSTGRES_DB:-$user}"

create_cluster() {
    # Beside its place, and moved there when it is whole: a start that was interrupted begins anew.
    new="$PGDATA.new"
    rm -rf "$new"
    secret="$(mktemp)"
    printf '%s\n' "$POSTGRES_PASSWORD" >"$secret"
    initdb --pgdata="$new" --username="$user" --pwfile="$secret" \
        --encoding=UTF8 --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256 >/dev/null
    rm -f "$secret"
    # Until it is filled, the server listens on a socket only that this user can reach.
    echo "local all all trust" >"$new/pg_hba.conf"
    pg_ctl --pgdata="$new" --silent --wait \
        --options="-c listen_addresses= -c unix_socket_directories=$new" start
    createdb --host="$new" --username="$user" "$database"
    psql --host="$new" --username="$user" --dbname="$database" --quiet --no-psqlrc \
        --set=ON_ERROR_STOP=1 --file=/usr/local/share/journal/schema.sql
    pg_ctl --pgdata="$new" --silent --wait --mode=fast stop
    echo "host all all all scram-sha-256" >"$new/pg_hba.conf"
    mv "$new" "$PGDATA"
}

if [ "${1:-}" = postgres ]; then
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        echo "creating the cluster in $PGDATA"
        create_cluster
    fi
    # A server that was killed leaves its pid file; with few pids, another process may bear that pid.
    rm -f "$PGDATA/postmaster.pid"
fi
exec "$@"
