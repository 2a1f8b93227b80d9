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

from chalicelib.images import function as images
from chalicelib.observability import count, logger

workers = Blueprint(__name__)
# Its handler lies there, so that neither Chalice nor this module is imported for it.
image_function = Blueprint(images.__name__)
image_function.lambda_function(name="image_transform")(images.image_transform)

Event = dict[str, Any]
Failures = dict[str, list[dict[str, str]]]

# Seconds before its end at which a function stops taking on work.
MARGIN = 20


@workers.lambda_function(name="object_rows")
def object_rows(event: Event, context: Any) -> Failures:
    """The stream of the objects table. A batch that fails is taken record by record, up to the one that does not go.

    That one is named, so that the mapping delivers from it on; as the first of its batch it fails the function,
    which the mapping bisects and retries, and which an alarm sees.
    """
    from chalicelib.core import changes

    records = event["Records"]
    failed = None
    try:
        changes.consume(records)
    except Exception:
        logger().exception("a batch of stream records failed", extra={"records": len(records)})
        failed = _first_failing(records, changes.consume)
    count({"ObjectRowsChanged": len(records)}, "object_rows")
    return {"batchItemFailures": [{"itemIdentifier": failed}] if failed else []}


def _first_failing(records: list[Event], consume: Callable[[list[Event]], None]) -> str | None:
    """Consume one by one; gives the sequence number of the first that fails, and raises if that is the very first."""
    for position, record in enumerate(records):
        try:
            consume([record])
        except Exception:
            if position == 0:
                raise
            logger().exception("a stream record failed")
            return str(record["dynamodb"]["SequenceNumber"])
    return None


@workers.lambda_function(name="bucket_objects")
def bucket_objects(event: Event, context: Any) -> None:
    """ObjectCreated in the internal bucket. A failure is retried twice by Lambda, then goes to the dead letters."""
    from chalicelib.core import attempts, direct, names

    for record in event.get("Records", ()):  # S3 sends a test event without records when it is configured
        physical_key = unquote_plus(record["s3"]["object"]["key"])
        of = attempts if physical_key.startswith(names.DELTAS) else direct
        of.object_created(physical_key)


@workers.lambda_function(name="job_worker")
def job_worker(event: Event, context: Any) -> None:
    """The jobs queue, one message at a time. One that cannot even be begun fails the function and goes back."""
    from chalicelib.core import job_kinds, jobs

    for record in event["Records"]:
        jobs.work(str(json.loads(record["body"])["job_id"]), job_kinds.KINDS, _seconds_left(context))


@workers.lambda_function(name="hourly")
def hourly(event: Event, context: Any) -> dict[str, Any]:
    """The hourly schedule; gives the cleanup's report. `{"dry_run": true}` counts and changes nothing."""
    from chalicelib.core import cleanup

    report = cleanup.run(_seconds_left(context), dry_run=bool(event.get("dry_run")))
    logger().info("cleanup", extra={"report": report})
    if not report["dry_run"]:
        count(cleanup.metrics(report), "hourly")
    return report


def _seconds_left(context: Any) -> Callable[[], float]:
    return lambda: context.get_remaining_time_in_millis() / 1000 - MARGIN
