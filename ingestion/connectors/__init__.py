"""One file per vendor. A module here that holds a `CONNECTOR` is a connector; there is no list to keep."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ingestion.connector import Connector


@cache
def connectors() -> dict[str, Connector]:
    """Every connector by name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [module.CONNECTOR for module in modules if hasattr(module, "CONNECTOR")]
    return {connector.name: connector for connector in found}
