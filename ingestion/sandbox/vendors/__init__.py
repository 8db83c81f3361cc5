"""The vendors whose APIs the sandbox serves: a file here is a vendor."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from ingestion.sandbox.vendor import Vendor


def vendor_classes() -> dict[str, type[Vendor]]:
    """Every vendor by its connector's name, in alphabetical order."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    classes = (each for module in modules for each in vars(module).values() if isinstance(each, type))
    found = {each.connector: each for each in classes if issubclass(each, Vendor) and each is not Vendor}
    return dict(sorted(found.items()))
