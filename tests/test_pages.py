"""The connectors' pages in the docs and their table in the README are what the declarations say."""

from __future__ import annotations

from ingestion import pages
from ingestion.connectors import connectors
from tests.flow_support import PROJECT


def test_pages_and_readme_are_up_to_date() -> None:
    stale = [path.name for path, text in pages.files(connectors(), PROJECT).items() if path.read_text() != text]
    assert not stale, "run `uv run app-usage connectors --write`"


def test_a_page_names_what_to_grant_what_to_set_and_what_counts() -> None:
    page = pages.page(connectors()["zoom"], PROJECT)
    for part in (
        "`report:read:user_activities:admin`",
        "`CONNECTIONS__<CONNECTION>__CLIENT_SECRET`",
        "Settings of the connection: `account_id`",
        "| `activities` | events | 180 d | 3 h / 3 d |",
        "Counted as a use: `Sign in`",
    ):
        assert part in page


def test_every_page_says_how_the_vendor_is_read() -> None:
    for name, connector in connectors().items():
        page = pages.page(connector, PROJECT)
        assert "Secrets: `CONNECTIONS__" in page, name
        assert all(f"`{stream.name}`" in page for stream in connector.streams), name
