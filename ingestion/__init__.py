"""From SaaS admin APIs to the product's Postgres. dlt is told here, before any module wakes it, to call nobody."""

import os

os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
os.environ.setdefault("RUNTIME__LOG_LEVEL", "CRITICAL")  # what matters is said by exceptions and the fetch log
