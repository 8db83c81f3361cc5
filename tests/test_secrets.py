"""No secret that a run is given, and no token that a vendor hands out, is left anywhere behind it."""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import quote

import duckdb

from ingestion.sandbox import Options, Sandbox
from tests.flow_support import NewSite, Site
from tests.support import NOW

# Errors are where secrets get out.
WORLD = Options(orgs=2, people=5, start=date(2026, 1, 10), faults={"acme-zoom": "revoked", "globex-okta": "revoked"})
PRODUCT_PASSWORD, WAREHOUSE_PASSWORD = "pw-of-the-product-7f3a9c", "pw-of-the-warehouse-51be02"


def test_no_secret_is_left_behind(new_site: NewSite, tmp_path: Path) -> None:
    """With PostgreSQL as the warehouse, which has a secret of its own; all else is as with DuckDB."""
    site = new_site(target="postgres")
    with Sandbox(WORLD, NOW) as sandbox:
        sandbox.fill_product(site.product_url)
        sandbox.write_files(tmp_path)
        done = site.command(
            *("app-usage", "run", "--now", NOW.isoformat(), "--connections", str(tmp_path / "connections.toml")),
            PRODUCT_DB_URL=site.product_url.replace("postgres:postgres@", f"postgres:{PRODUCT_PASSWORD}@"),
            DBT_ENV_SECRET_WAREHOUSE_PASSWORD=WAREHOUSE_PASSWORD,
            **sandbox.secrets(),
        )
        assert done.returncode == 3, done.stdout + done.stderr
        tokens = [token for vendor in sandbox.vendors.values() for token in vendor.tokens._issued]
    assert len(tokens) >= 3
    forms = set(spellings([*sandbox.secrets().values(), *tokens, PRODUCT_PASSWORD, WAREHOUSE_PASSWORD]))
    for zoom in ("ACME_ZOOM", "GLOBEX_ZOOM"):
        login = ":".join(sandbox.secrets()[f"CONNECTIONS__{zoom}__{name}"] for name in ("CLIENT_ID", "CLIENT_SECRET"))
        forms.add(base64.b64encode(login.encode()).decode())
    places = {"stdout": done.stdout, "stderr": done.stderr, **dict(left_behind(site))}
    # that the search would find something: names of connections are in all kinds of places, and are no secrets
    for place in ("stderr", "warehouse landing_zoom.fetch_log", "state in landing_zoom"):
        assert "acme-zoom" in places[place]
    assert {Path(place).suffix for place in places} >= {".json", ".log", ".parquet"}
    assert [(place, form) for place, text in places.items() for form in forms if form in text] == []


def spellings(secrets: list[str]) -> Iterator[str]:
    """The ways in which a secret may be written; of a key each line."""
    for secret in secrets:
        assert len(secret) > 7
        yield from {secret, json.dumps(secret)[1:-1], quote(secret), quote(secret, safe="")}
        yield from (line for line in secret.splitlines()[1:-1] if len(line) > 20)


def left_behind(site: Site) -> Iterator[tuple[str, str]]:
    """(place, its text) of all that a run leaves: files, packed ones unpacked, and every row of every table."""
    for path in sorted(site.home.rglob("*")):
        if path.is_file() and path.suffix == ".parquet":
            yield str(path), repr(duckdb.sql(f"from read_parquet('{path}')").fetchall())
        elif path.is_file():
            content = path.read_bytes()
            yield str(path), (gzip.decompress(content) if path.suffix == ".gz" else content).decode(errors="replace")
    everywhere = "select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE'"
    own = " and table_schema not in ('pg_catalog', 'information_schema')"
    for schema, table in site.query(everywhere + own):
        yield f"warehouse {schema}.{table}", repr(site.query(f'select * from "{schema}"."{table}"'))
        if table == "_dlt_pipeline_state":
            states = site.query(f'select state from "{schema}"."{table}"')
            unpacked = (zlib.decompress(base64.b64decode(state)).decode() for (state,) in states)
            yield f"state in {schema}", "\n".join(unpacked)
    for schema, table in site.product(everywhere + own):
        yield f"product {schema}.{table}", repr(site.product(f'select * from "{schema}"."{table}"'))
