"""Every hostile situation against every stream of every connector, by its declaration alone."""

from __future__ import annotations

import pytest

from ingestion.connector import Connector, Stream
from ingestion.connectors import connectors
from tests.conformance.situations import SITUATIONS, Situation, Stage

pytestmark = pytest.mark.stress
CASES = [
    pytest.param(connector, stream, situation, id=f"{connector.name}.{stream.name}-{situation.name}")
    for connector in connectors().values()
    for stream in connector.streams
    if stream.path
    for situation in SITUATIONS.values()
    if situation.applies(connector, stream)
]


def ways_to_page() -> dict[str, tuple[Connector, Stream]]:
    """A stream for each way to page that any connector has, and for pages that are CSV."""
    found: dict[str, tuple[Connector, Stream]] = {}
    for connector in connectors().values():
        for stream in connector.streams:
            if stream.path:
                found.setdefault("CSV" if stream.csv else type(stream.paginator()).__name__, (connector, stream))
    return found


@pytest.mark.parametrize(("connector", "stream"), ways_to_page().values(), ids=ways_to_page())
def test_a_record_of_50_mb_is_rejected_and_its_neighbours_land(connector: Connector, stream: Stream) -> None:
    with Stage(connector, stream).world() as world:
        neighbours = world.fill()
        world.add().record["odd"] = "x" * 50_000_000
        world.expects_rejects = True
        assert world.run() is None
        world.assert_all_there(neighbours)
        assert [reason for reason, _ in world.rejects] == ["longer than 8388608 bytes"]


@pytest.mark.parametrize(("connector", "stream", "situation"), CASES)
def test_hostile(connector: Connector, stream: Stream, situation: Situation) -> None:
    situation.check(Stage(connector, stream))
