"""Policies beside PostgreSQL 15: an evaluation and a transaction that does the same; creating one, by our parser and by pglast.

Wall-clock time, for most of a round trip passes in another process. The transaction is what a server that keeps its
policies in PostgreSQL sends for each decision (seed 002): claims by SET LOCAL, the expression over the object's row.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.rig import Rig, Table

ROUNDS = 25
BATCH = 200
DEFINITIONS = {
    "owner": "auth_uid()::uuid = owner_id",
    "authenticated": "auth_uid() IS NOT NULL",
    "team folder": "name LIKE 'team/%' AND auth_role() IN ('editor', 'admin') AND (user_metadata->>'team')::text = 'blue'",
    "recent images": "content_type LIKE 'image/%' AND size BETWEEN 1 AND 10000000 AND created_at > now() - interval '30 days'",
}
_IMPORTED = "import time, sys; s = time.process_time(); {}; sys.stdout.write(str(time.process_time() - s))"
_BEFORE = "import json, re, decimal, datetime, typing, dataclasses, chalicelib.errors"


def run(rig: Rig) -> tuple[Table, dict[str, Any]]:
    """Every definition by both, in turns; then what creating a policy costs."""
    from tests.policies.postgres import running_oracle
    from tests.policies.rows import CALLERS, row

    object_row = row(name="team/photo.png", user_metadata={"team": "blue"})
    columns = {name: json.loads(value) if name == "user_metadata" else value for name, value in object_row.items()}
    with running_oracle() as oracle:
        works: dict[str, Callable[[], object]] = {}
        for name, definition in DEFINITIONS.items():
            works[f"{name}, PostgreSQL"] = _transaction(oracle.connection, definition, CALLERS[0], columns)
            works[name] = _evaluation(definition, CALLERS[0], object_row)
        seconds = _interleaved(works)
    compiled, loaded, parsed = _creation(DEFINITIONS["team folder"])
    rows = [[name, f"{taken * 1e6:.1f}"] for name, taken in seconds.items()]
    ratios = {name: seconds[f"{name}, PostgreSQL"] / seconds[name] for name in DEFINITIONS}
    rows += [[f"{name}: round trips to one evaluation", f"{ratio:.0f}"] for name, ratio in ratios.items()]
    imports = {name: _import_seconds(statement) for name, statement in _IMPORTS.items()}
    rows += [["creation: compile `team folder`", f"{compiled * 1e6:.1f}"], ["cold: compiled JSON to closures", f"{loaded * 1e6:.1f}"]]
    rows += [
        ["pglast: parse alone", f"{parsed * 1e6:.1f}"],
        *([f"import {name}, ms", f"{taken * 1e3:.1f}"] for name, taken in imports.items()),
    ]
    figures = {"seconds": seconds, "ratios": ratios, "compile": compiled, "load": loaded, "pglast_parse": parsed, "imports": imports}
    return Table("Policies, µs", ["what", "µs"], rows), figures


_IMPORTS = {
    "grammar, analysis, folding": "import chalicelib.access.policy.folding, chalicelib.access.policy.grammar",
    "pglast": "import pglast",
}


def _transaction(connection: Any, definition: str, caller: Any, columns: dict[str, Any]) -> Callable[[], object]:
    connection.execute("TRUNCATE objects")
    from psycopg.types.json import Jsonb

    from tests.policies.postgres import INSERT

    connection.execute(INSERT, {**columns, "user_metadata": Jsonb(columns["user_metadata"]), "place": 1})
    claims = "; ".join(
        f"SET LOCAL caller.{name} = '={value}'"
        for name, value in (("uid", caller.uid), ("role", caller.role), ("email", caller.email), ("now", caller.now.isoformat()))
    )
    query = f"BEGIN; {claims}; SELECT ({definition}) FROM objects; COMMIT"

    def transaction() -> object:
        cursor = connection.execute(query)
        while cursor.description is None:
            cursor.nextset()
        return cursor.fetchone()

    return transaction


def _evaluation(definition: str, caller: Any, object_row: dict[str, Any]) -> Callable[[], object]:
    from chalicelib.access.policy import Scope, compile_policy

    policy = compile_policy(definition)
    return lambda: policy.evaluate(Scope(caller.uid, caller.role, caller.email, object_row, caller.now))


def _creation(definition: str) -> tuple[float, float, float]:
    import pglast

    from chalicelib.access.policy import Policy, compile_policy

    compiled = compile_policy(definition).compiled
    taken = _interleaved(
        {
            "compile": lambda: compile_policy(definition),
            "load": lambda: Policy.from_compiled(compiled),
            "pglast": lambda: pglast.parse_sql(f"SELECT {definition}"),
        }
    )
    return taken["compile"], taken["load"], taken["pglast"]


def _interleaved(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least wall-clock seconds of one call of each, in batches taken in turns."""
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            started = time.perf_counter()
            for _ in range(BATCH):
                work()
            samples[name].append((time.perf_counter() - started) / BATCH)
    return {name: min(taken) for name, taken in samples.items()}


def _import_seconds(statement: str) -> float:
    """CPU seconds of an import in a new interpreter, beyond what every request has imported anyway."""
    program = _IMPORTED.format(statement)
    return min(
        float(subprocess.run([sys.executable, "-c", f"{_BEFORE}\n{program}"], capture_output=True, check=True, text=True).stdout)
        for _ in range(7)
    )
