"""Feeds the functions that AWS would invoke: stream records, queue messages, bucket events, the clock.

    python -m infra.runner POSITION_FILE BUCKET_EVENTS_QUEUE_URL

One process, a thread a source, the same events as Lambda's (docs.aws.amazon.com/lambda: "services-ddb", "with-sqs",
"with-s3"), the same promises: at least once, in order within a shard, and what fails is tried again later.

MiniStack keeps stream records in memory only. So on SIGTERM the queues stop first and the stream is read to its
end; `run.py` has stopped the API by then, and nothing writes any more. The position in the stream is kept in
POSITION_FILE, for a runner that was killed while the embedded AWS went on.
"""

import base64
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from chalice.local import LambdaContext

from infra import lifeline, stack

Event = dict[str, Any]
Function = Callable[[Event, Any], Any]

# Seconds.
STREAM_INTERVAL = 0.4
QUEUE_WAIT = 2
MAX_PAUSE = 30.0
HOUR = 3600
DRAIN_TIMEOUT = 15.0
# As `infra/template.yaml` sets them for the deployed functions.
STREAM_BATCH = 100
STREAM_RETRIES = 10
QUEUE_BATCH = 1
FUNCTION_SECONDS = 900
FUNCTION_MEMORY = 1024

log = logging.getLogger("runner")


class Target:
    """A function as Lambda's sources see it: it takes an event and succeeds, fails in part, or fails."""

    def __init__(self, name: str, function: Function) -> None:
        self.name = name
        self._function = function

    def invoke(self, event: Event) -> Event:
        """What the function returns; raises whatever it raises."""
        context = LambdaContext(self.name, FUNCTION_MEMORY, FUNCTION_SECONDS * 1000)
        answer = self._function(event, context)
        return answer if isinstance(answer, dict) else {}

    def report(self, error: BaseException, pause: float) -> None:
        """One line about a failure that is tried again."""
        log.warning("%s failed, again in %.1f s: %s: %s", self.name, pause, type(error).__name__, error)


def pause_after(failures: int) -> float:
    """Seconds to wait after so many failures in a row."""
    return float(min(0.5 * 2 ** min(failures - 1, 10), MAX_PAUSE))


class Source(threading.Thread):
    """Something that is looked at again and again until `stopping` is set."""

    def __init__(self, name: str, stopping: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = stopping

    def look(self) -> float:
        """Handle what there is; returns the seconds to wait before looking again."""
        raise NotImplementedError

    def run(self) -> None:
        """Look until told to stop. No failure ends it."""
        failures = 0
        while not self.stopping.is_set():
            try:
                pause = self.look()
                failures = 0
            except Exception as error:  # a source outlives whatever its function or the AWS does
                failures += 1
                pause = pause_after(failures)
                log.warning("%s: again in %.1f s: %s: %s", self.name, pause, type(error).__name__, error)
            self.stopping.wait(pause)


# ---- the stream of a table -------------------------------------------------------------------------------------
class Stream(Source):
    """A table's stream, read as an event source mapping with bisection and partial-batch answers reads it.

    `_positions` has for each shard the sequence number of the last record that was handled, or CLOSED.
    """

    CLOSED = "closed"

    def __init__(self, table: str, target: Target, environment: dict[str, str], positions: Path, stopping: threading.Event) -> None:
        super().__init__(f"stream of {table}", stopping)
        self._target = target
        self._streams = stack.aws_client("dynamodbstreams", environment)
        self._arn = stack.aws_client("dynamodb", environment).describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._file = positions
        self._positions = self._read_positions()
        self._iterators: dict[str, str] = {}

    def look(self) -> float:
        """Handle the next records of each open shard."""
        return 0 if self.read_on() else STREAM_INTERVAL

    def read_on(self) -> int:
        """Handle one page of each shard that may have records; returns how many records there were."""
        if not self._iterators:
            self._open_shards()
        return sum(self._read_shard(shard) for shard in list(self._iterators))

    def drain(self, timeout: float) -> bool:
        """Read to the end; returns whether that was reached within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if not self.read_on():
                    return True
            except (BotoCoreError, ClientError) as error:
                log.warning("%s could not be read to its end: %s", self.name, error)
                return False
        return False

    def _open_shards(self) -> None:
        """Get an iterator for every shard that is not read to its end and whose parent is."""
        shards = self._describe()
        present = {shard["ShardId"] for shard in shards}
        self._positions = {shard: position for shard, position in self._positions.items() if shard in present}
        for shard in shards:
            parent = shard.get("ParentShardId")
            waiting = parent in present and self._positions.get(str(parent)) != self.CLOSED
            if not waiting and self._positions.get(shard["ShardId"]) != self.CLOSED:
                self._iterators[shard["ShardId"]] = self._iterator(shard["ShardId"])

    def _describe(self) -> list[Event]:
        shards: list[Event] = []
        start: dict[str, str] = {}
        while True:
            described = self._streams.describe_stream(StreamArn=self._arn, **start)["StreamDescription"]
            shards += described["Shards"]
            if "LastEvaluatedShardId" not in described:
                return shards
            start = {"ExclusiveStartShardId": described["LastEvaluatedShardId"]}

    def _iterator(self, shard: str) -> str:
        wanted = {"StreamArn": self._arn, "ShardId": shard}
        position = self._positions.get(shard)
        if position:
            try:
                after = self._streams.get_shard_iterator(**wanted, ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=position)
                return str(after["ShardIterator"])
            except self._streams.exceptions.TrimmedDataAccessException:
                pass  # the embedded AWS was restarted: what its stream holds now is new
        return str(self._streams.get_shard_iterator(**wanted, ShardIteratorType="TRIM_HORIZON")["ShardIterator"])

    def _read_shard(self, shard: str) -> int:
        iterator = self._iterators.pop(shard)  # after any failure a new one is made from the position
        page = self._streams.get_records(ShardIterator=iterator, Limit=STREAM_BATCH)
        records = [lambda_record(record, self._arn) for record in page["Records"]]
        if records:
            self._deliver(shard, records)
        if page.get("NextShardIterator"):
            self._iterators[shard] = page["NextShardIterator"]
        else:
            self._advance(shard, self.CLOSED)
        return len(records)

    def _deliver(self, shard: str, records: list[Event]) -> None:
        """Have `records` handled, in order; each is given up after its retries, so that it cannot hold up the rest."""
        failures = 0
        while records:
            done, error = self._attempt(records)
            if done:
                self._advance(shard, records[done - 1]["dynamodb"]["SequenceNumber"])
                records, failures = records[done:], 0
            if error is None:
                continue
            if failures == STREAM_RETRIES:
                log.error("%s gave up record %s: %s", self._target.name, records[0]["dynamodb"]["SequenceNumber"], error)
                self._advance(shard, records[0]["dynamodb"]["SequenceNumber"])
                records, failures = records[1:], 0
                continue
            failures += 1
            self._target.report(error, pause_after(failures))
            self.stopping.wait(pause_after(failures))
            if len(records) > 1:  # bisect: what is in front of a bad record must not wait for it
                half = len(records) // 2
                self._deliver(shard, records[:half])
                records, failures = records[half:], 0

    def _attempt(self, records: list[Event]) -> tuple[int, Exception | None]:
        """How many of `records` are done, counted from the first, and what stopped the next one."""
        try:
            failed = self._target.invoke({"Records": records}).get("batchItemFailures") or []
        except Exception as error:  # whatever a function raises is a failed batch
            return 0, error
        numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        places = [numbers.index(each["itemIdentifier"]) for each in failed if each.get("itemIdentifier") in numbers]
        if failed and not places:
            return 0, RuntimeError("the function reported failures of records that it was not given")
        return (min(places), RuntimeError("the function reported a failed record")) if places else (len(records), None)

    def _advance(self, shard: str, position: str) -> None:
        self._positions[shard] = position
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({self._arn: self._positions}))
        fresh.replace(self._file)

    def _read_positions(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._file.read_text()).get(self._arn, {}))
        except (OSError, ValueError):
            return {}  # from the oldest record on: handlers are idempotent


def lambda_record(record: Event, arn: str) -> Event:
    """A record of the Streams API as Lambda writes it in an event: JSON only, with the ARN of its stream."""
    return {**_plain(record), "eventSourceARN": arn}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value.timestamp() if isinstance(value, datetime) else value


# ---- queues ----------------------------------------------------------------------------------------------------
class Queue(Source):
    """A queue whose messages go to a function, and are deleted when it succeeds."""

    def __init__(self, url: str, target: Target, environment: dict[str, str], stopping: threading.Event) -> None:
        super().__init__(f"queue {url.rpartition('/')[2]}", stopping)
        self._url = url
        self._target = target
        self._sqs = stack.aws_client("sqs", environment)
        self._in_hand: Event | None = None

    def look(self) -> float:
        """Wait a little for messages and handle them."""
        answer = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=QUEUE_BATCH,
            WaitTimeSeconds=QUEUE_WAIT,
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        for message in answer.get("Messages", []):
            self._deliver(message)
        return 0

    def event(self, message: Event) -> Event | None:
        """The function's event for `message`; None for a message that is not for it."""
        record = {
            "messageId": message["MessageId"],
            "receiptHandle": message["ReceiptHandle"],
            "body": message["Body"],
            "attributes": message.get("Attributes", {}),
            "messageAttributes": {name: _message_attribute(each) for name, each in message.get("MessageAttributes", {}).items()},
            "md5OfBody": message["MD5OfBody"],
            "eventSource": "aws:sqs",
            "eventSourceARN": f"arn:aws:sqs:{stack.REGION}:{'/'.join(self._url.split('/')[-2:]).replace('/', ':')}",
            "awsRegion": stack.REGION,
        }
        return {"Records": [record]}

    def _deliver(self, message: Event) -> None:
        receipt = {"QueueUrl": self._url, "ReceiptHandle": message["ReceiptHandle"]}
        self._in_hand = receipt
        try:
            event = self.event(message)
            if event is not None and self._target.invoke(event).get("batchItemFailures"):
                raise RuntimeError("the function reported a failed message")
        except Exception as error:  # whatever a function raises is a failed message
            pause = pause_after(int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1)))
            self._target.report(error, pause)
            self._sqs.change_message_visibility(**receipt, VisibilityTimeout=max(1, round(pause)))
        else:
            self._sqs.delete_message(**receipt)
        finally:
            self._in_hand = None

    def put_back(self) -> None:
        """Have a message that is still being handled delivered again at once: its handler is about to be cut off."""
        receipt = self._in_hand
        if receipt:
            self._sqs.change_message_visibility(**receipt, VisibilityTimeout=0)


class BucketEvents(Queue):
    """The queue that the bucket notifies here; each message is the event that a notified function gets."""

    def event(self, message: Event) -> Event | None:
        """None for the message with which S3 tries out a new notification."""
        event: Event = json.loads(message["Body"])
        return event if "Records" in event else None


def _message_attribute(value: Event) -> Event:
    plain: Event = _plain(value)
    return {name[0].lower() + name[1:]: each for name, each in plain.items()}


# ---- the clock -------------------------------------------------------------------------------------------------
class Clock(Source):
    """Calls a function at once and then every hour, as an EventBridge schedule does."""

    def __init__(self, target: Target, stopping: threading.Event) -> None:
        super().__init__("hourly schedule", stopping)
        self._target = target
        self._due = 0.0

    def look(self) -> float:
        """Call the function when the hour is over; returns the seconds that are left of it."""
        if time.monotonic() >= self._due:
            self._call()
        return self._due - time.monotonic()

    def strike(self) -> None:
        """Call the function now. A failure is left to the next look."""
        try:
            self._call()
        except Exception as error:  # whatever the function raises
            self._target.report(error, 0)

    def _call(self) -> None:
        now = datetime.now(UTC)
        event = {
            "version": "0",
            "id": f"hourly-{now:%Y%m%dT%H%M%S}",
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": "000000000000",
            "time": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            "region": stack.REGION,
            "resources": [f"arn:aws:events:{stack.REGION}:000000000000:rule/hourly"],
            "detail": {},
        }
        self._target.invoke(event)
        self._due = time.monotonic() + HOUR


# ---- the process -----------------------------------------------------------------------------------------------
class Runner:
    """All sources of one installation, whose settings are in `environment`."""

    def __init__(self, functions: Any, environment: dict[str, str], positions: Path, bucket_events: str) -> None:
        self._stopping = threading.Event()
        self._draining = threading.Event()
        table = f"{environment['STOWAGE_TABLE_PREFIX']}-objects"
        self.stream = Stream(table, _target(functions, "object_rows"), environment, positions, self._draining)
        self.clock = Clock(_target(functions, "hourly"), self._stopping)
        self.others: list[Source] = [
            Queue(environment["STOWAGE_JOBS_QUEUE"], _target(functions, "job_worker"), environment, self._stopping),
            BucketEvents(bucket_events, _target(functions, "bucket_objects"), environment, self._stopping),
            self.clock,
        ]

    def start(self) -> None:
        """Let the clock strike once, alone, then start looking at every source.

        On Lambda every function has its process. Here they share one, and what they import and connect when
        first called (circular packages among it) is not made for several threads at once.
        """
        self.clock.strike()
        for source in [self.stream, *self.others]:
            source.start()

    def stop(self) -> bool:
        """Finish what is under way and read the stream to its end; returns whether that was reached in time."""
        self._stopping.set()
        deadline = time.monotonic() + DRAIN_TIMEOUT
        for source in self.others:
            source.join(max(0, deadline - time.monotonic()))
            if isinstance(source, Queue):
                source.put_back()
        self._draining.set()
        self.stream.join(max(0, deadline - time.monotonic()))
        return not self.stream.is_alive() and self.stream.drain(max(1, deadline - time.monotonic()))


def _target(functions: Any, name: str) -> Target:
    return Target(name, getattr(functions, name))


def main(arguments: list[str]) -> int:
    """Run until SIGTERM."""
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format="%(name)s: %(message)s")
    lifeline.watch()
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    from chalicelib import workers  # reads the settings: after the environment is known to be complete

    runner = Runner(workers, dict(os.environ), Path(arguments[0]), arguments[1])
    runner.start()
    stopped.wait()
    if not runner.stop():
        log.error("stopped before the stream of the objects table was read to its end; its counters may be off until reconciled")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
