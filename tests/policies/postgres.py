"""A PostgreSQL 15 of the tests' own, and what it says of policies.

The server keeps everything in one folder under /tmp (a socket's path is short) and ends with the process that
started it. Its `objects` table and `auth_*` functions are those that a policy sees. Time is UTC, collation "C".
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from .rows import Caller, Row

PROGRAMS = Path("/usr/lib/postgresql/15/bin")  # where Debian's package `postgresql-15` has them
STARTS_WITHIN = 60
STOPS_WITHIN = 20
# Standard input ends with whoever holds its other end, and the server with that: SIGINT is its "fast" shutdown.
ENDS_WITH_STARTER = '"$@" </dev/null & server=$!; read -r _; kill -INT $server; wait $server'
BATCH = 100
Server = subprocess.Popen[bytes]

# Columns of CONTRACT "Policy language", and the row's place, under a name that no expression uses.
SCHEMA = """
CREATE TABLE objects ("row's place" int, id uuid, name text, bucket_id text, size bigint, content_type text, checksum text, owner_id uuid,
    user_metadata jsonb, created_at timestamptz, updated_at timestamptz);

-- A setting is '=' and its value, or unset: PostgreSQL itself cannot tell unset from empty.
CREATE FUNCTION setting(name text) RETURNS text STABLE LANGUAGE sql AS
    $$ SELECT CASE WHEN left(current_setting(name, true), 1) = '=' THEN substr(current_setting(name, true), 2) END $$;
CREATE FUNCTION auth_uid() RETURNS text STABLE LANGUAGE sql AS $$ SELECT setting('caller.uid') $$;
CREATE FUNCTION auth_role() RETURNS text STABLE LANGUAGE sql AS $$ SELECT setting('caller.role') $$;
CREATE FUNCTION auth_email() RETURNS text STABLE LANGUAGE sql AS $$ SELECT setting('caller.email') $$;
CREATE FUNCTION public.now() RETURNS timestamptz STABLE LANGUAGE sql AS $$ SELECT setting('caller.now')::timestamptz $$;

-- One letter for each caller and row: t, f, n (NULL) or e (error); and the first error's text. AND coerces to
-- boolean as CREATE POLICY does, and the planner drops it. The line feed ends a comment of the expression's.
-- An expression that closes the parenthesis and opens another is none: it does not fit into brackets.
CREATE FUNCTION answers(expression text, callers jsonb, OUT letters text, OUT complaint text) LANGUAGE plpgsql AS $$
DECLARE
    query text := 'SELECT ((' || expression || E'\\n) AND true) FROM objects';
    caller jsonb;
    places int[] := ARRAY(SELECT "row's place" FROM objects ORDER BY 1);
    place int;
    answer boolean;
    so_far text;
BEGIN
    letters := '';
    BEGIN
        EXECUTE 'EXPLAIN SELECT ARRAY[' || expression || E'\\n] FROM objects';
        EXECUTE 'EXPLAIN ' || query;
    EXCEPTION WHEN OTHERS THEN
        letters := repeat('e', jsonb_array_length(callers) * cardinality(places));
        complaint := 'planning: ' || SQLERRM;
        RETURN;
    END;
    FOR caller IN SELECT jsonb_array_elements(callers) LOOP
        PERFORM set_config('caller.' || key, coalesce('=' || value, ''), false) FROM jsonb_each_text(caller);
        so_far := letters;
        BEGIN
            FOR answer IN EXECUTE query || ' ORDER BY "row''s place"' LOOP
                letters := letters || coalesce(left(answer::text, 1), 'n');
            END LOOP;
        EXCEPTION WHEN OTHERS THEN
            letters := so_far;
            complaint := coalesce(complaint, SQLERRM);
            FOREACH place IN ARRAY places LOOP
                BEGIN
                    EXECUTE query || ' WHERE "row''s place" = ' || place INTO STRICT answer;
                    letters := letters || coalesce(left(answer::text, 1), 'n');
                EXCEPTION WHEN OTHERS THEN
                    letters := letters || 'e';
                END;
            END LOOP;
        END;
    END LOOP;
END $$;
"""
INSERT = """
INSERT INTO objects VALUES (%(place)s, %(id)s::uuid, %(name)s, %(bucket_id)s, %(size)s, %(content_type)s, %(checksum)s, %(owner_id)s::uuid,
    %(user_metadata)s::jsonb, %(created_at)s::timestamptz, %(updated_at)s::timestamptz)
"""
ANSWERS = """
SELECT a.letters, a.complaint FROM unnest(%s::text[]) WITH ORDINALITY AS e(expression, place), answers(expression, %s) AS a ORDER BY place
"""


@dataclass(frozen=True)
class Answers:
    """What PostgreSQL says of one expression: a letter a caller and row, callers outermost, and its first complaint."""

    letters: str
    complaint: str | None


class Oracle:
    """PostgreSQL's opinion."""

    def __init__(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        self.connection = connection

    def answers(self, expressions: Sequence[str], rows: Sequence[Row], callers: Sequence[Caller]) -> list[Answers]:
        """What each expression gives for each caller on each row."""
        told = Jsonb([{**caller._asdict(), "now": caller.now.isoformat()} for caller in callers])
        found: list[Answers] = []
        with self.connection.cursor() as cursor:
            cursor.execute("TRUNCATE objects")
            cursor.executemany(INSERT, [{**row, "place": place} for place, row in enumerate(rows)])
            for start in range(0, len(expressions), BATCH):
                cursor.execute(ANSWERS, (list(expressions[start : start + BATCH]), told))
                found += [Answers(*answer) for answer in cursor]
        return found


@contextmanager
def running_oracle() -> Iterator[Oracle]:
    """Start a server, give its opinion, stop it. Raises FileNotFoundError where PostgreSQL 15 is not installed."""
    folder = Path(tempfile.mkdtemp(prefix="stowage-postgres-", dir="/tmp"))
    try:
        with _running_server(folder) as server, _connection(folder, server) as connection:
            connection.execute(SCHEMA)
            yield Oracle(connection)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running_server(folder: Path) -> Iterator[Server]:
    account = _account(folder)
    cluster, log = folder / "data", folder / "log"
    initdb = [str(PROGRAMS / "initdb"), "-D", str(cluster), "-U", "postgres", "-A", "trust", "--locale=C", "--encoding=UTF8", "--no-sync"]
    subprocess.run(initdb, cwd=folder, check=True, stdout=subprocess.DEVNULL, **account)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": folder,
        "timezone": "UTC",
        "fsync": "off",
        "jit": "off",
        "autovacuum": "off",
        "search_path": "public, pg_catalog",  # now() is ours
    }
    command = [str(PROGRAMS / "postgres"), "-D", str(cluster), *(f"--{name}={value}" for name, value in settings.items())]
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["/bin/sh", "-c", ENDS_WITH_STARTER, "sh", *command],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            **account,
        )
    try:
        yield server
    finally:
        assert server.stdin is not None
        server.stdin.close()
        server.wait(STOPS_WITHIN)


def _account(folder: Path) -> dict[str, Any]:
    """Whom the server runs as, for `subprocess`: it refuses to be root. The folder becomes theirs."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _connection(folder: Path, server: Server) -> "psycopg.Connection[tuple[Any, ...]]":
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        try:
            return psycopg.connect(host=str(folder), user="postgres", dbname="postgres", autocommit=True)
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "log").read_text(errors="replace")[-3000:]) from None
        time.sleep(0.05)
