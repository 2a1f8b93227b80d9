"""One logger and one way to count, for every function: structured lines and CloudWatch's embedded metrics.

Lines carry route templates, never paths, tokens or query strings. Metrics have no tenant dimension: each
distinct value would be a metric of its own, and billed as one.
"""

import sys
from functools import lru_cache

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

from chalicelib.settings import settings

NAMESPACE = "Stowage"


@lru_cache(maxsize=1)
def logger() -> Logger:
    """The process's logger: one JSON object a line, on stdout."""
    return Logger(service="stowage", level=settings().log_level, stream=sys.stdout, utc=True)


def count(values: dict[str, float], function: str) -> None:
    """Emit metrics in CloudWatch's embedded format, dimensioned by function. Names ending in `Ms` are milliseconds.

    Never raises: what was done is not to be done again because it could not be counted.
    """
    try:
        metrics = EphemeralMetrics(namespace=NAMESPACE, service="stowage")
        metrics.add_dimension("function", function)
        for name, value in values.items():
            metrics.add_metric(name, MetricUnit.Milliseconds if name.endswith("Ms") else MetricUnit.Count, value)
        metrics.flush_metrics()
    except Exception:
        logger().exception("metrics were not emitted", extra={"function": function})
