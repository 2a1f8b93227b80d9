"""The functions behind the API: what AWS calls when rows change, bytes arrive, jobs wait and hours pass.

Each is a Lambda of its own whose handler lies here, so that `app.py` is not imported for it; what triggers it
is declared in `infra/template.yaml`, and `infra/runner.py` calls the same handlers locally. The API imports this
module to register the functions and needs nothing of what they do, so each imports that itself.
"""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote_plus

from chalice.app import Blueprint

from chalicelib.observability import count, logger

workers = Blueprint(__name__)

Event = dict[str, Any]
Failures = dict[str, list[dict[str, str]]]

# Seconds before its end at which a function stops taking on work.
MARGIN = 20


@workers.lambda_function(name="object_rows")
def object_rows(event: Event, context: Any) -> Failures:
    """The stream of the objects table. A batch that fails is bisected and delivered again by the mapping."""
    from chalicelib.core import changes

    records = event["Records"]
    try:
        changes.consume(records)
    except Exception:
        logger().exception("stream records failed", extra={"records": len(records)})
        # The first record marks where to begin again: the batch has no effect that must not be repeated.
        return {"batchItemFailures": [{"itemIdentifier": records[0]["dynamodb"]["SequenceNumber"]}]}
    count({"ObjectRowsChanged": len(records)}, "object_rows")
    return {"batchItemFailures": []}


@workers.lambda_function(name="bucket_objects")
def bucket_objects(event: Event, context: Any) -> None:
    """ObjectCreated in the internal bucket. A failure is retried twice by Lambda, then goes to the dead letters."""
    from chalicelib.core import uploads

    for record in event.get("Records", ()):  # S3 sends a test event without records when it is configured
        uploads.object_created(unquote_plus(record["s3"]["object"]["key"]))


@workers.lambda_function(name="job_worker")
def job_worker(event: Event, context: Any) -> Failures:
    """The jobs queue, one message at a time. What cannot even be begun goes back to the queue."""
    from chalicelib.core import job_kinds, jobs

    failures = []
    for record in event["Records"]:
        try:
            jobs.work(_job_id(record["body"]), job_kinds.KINDS, _seconds_left(context))
        except Exception:
            logger().exception("a job could not be begun")
            failures.append({"itemIdentifier": record["messageId"]})
    return {"batchItemFailures": failures}


@workers.lambda_function(name="hourly")
def hourly(event: Event, context: Any) -> dict[str, Any]:
    """The hourly schedule; gives the cleanup's report."""
    from chalicelib.core import cleanup

    report = cleanup.run(_seconds_left(context))
    logger().info("cleanup", extra={"report": report})
    count({"GarbageDeleted": report["garbage"]["deleted"], "GarbageLeft": len(report["garbage"]["left"])}, "hourly")
    return report


def _job_id(body: str) -> str:
    return str(json.loads(body)["job_id"])


def _seconds_left(context: Any) -> Callable[[], float]:
    return lambda: context.get_remaining_time_in_millis() / 1000 - MARGIN
