"""The last step: the marts, as one generation, into the product's PostgreSQL."""

from ingestion.publish.changes import Change, changes, kept_as_built
from ingestion.publish.marts import PublishError, read_marts
from ingestion.publish.oversight import (
    Difference,
    Status,
    TableStatus,
    Verified,
    forget,
    migrate,
    rollback,
    rows_of,
    status,
    verify,
)
from ingestion.publish.publication import Canary, Generation, TableResult, publish

__all__ = [
    "Canary",
    "Change",
    "Difference",
    "Generation",
    "PublishError",
    "Status",
    "TableResult",
    "TableStatus",
    "Verified",
    "changes",
    "forget",
    "kept_as_built",
    "migrate",
    "publish",
    "read_marts",
    "rollback",
    "rows_of",
    "status",
    "verify",
]
