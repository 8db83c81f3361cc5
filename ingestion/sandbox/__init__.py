"""The vendors' admin APIs on localhost, with a seeded world behind them whose truth is known.

    with Sandbox(Options(seed=1), now) as sandbox:
        sandbox.connections(), sandbox.secrets()    # what a run is configured with
        sandbox.truth().events                      # what it must find

It is written from the vendors' own descriptions and shares no code with the connectors, so that the one can judge the
other. `world.py` is who does what when; a file in `vendors/` is an API; adding one adds a vendor.
"""

from ingestion.sandbox.sandbox import Sandbox, TrueAccount, TrueEvent, Truth, serve
from ingestion.sandbox.vendor import Response
from ingestion.sandbox.world import Options, OptionsError

__all__ = ["Options", "OptionsError", "Response", "Sandbox", "TrueAccount", "TrueEvent", "Truth", "serve"]
