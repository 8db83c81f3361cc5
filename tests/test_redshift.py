"""The checker finds what Redshift would not run, and nothing in what it would; the models pass in both branches."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models_support import Warehouse
from tests.redshift import findings

BAD = {
    "select distinct on (a) a, b from t order by a": "DISTINCT ON",
    "select count(*) filter (where a > 1) from t": "FILTER",
    "select payload->>'a' from t": "JSON",
    "select payload->'a' from t": "JSON",
    "select array[1, 2] from t": "array",
    "select cast(a as jsonb) from t": "type",
    "select cast(a as uuid) from t": "type",
    "select * from t, lateral (select 1) as x": "LATERAL",
    "select * from t tablesample bernoulli (1)": "TABLESAMPLE",
    "insert into t select 1 on conflict do nothing": "ON CONFLICT",
    "insert into t select 1 returning a": "RETURNING",
    "create index i on t (a)": "index",
    "select * from a join b on a.x is not distinct from b.x": "IS DISTINCT FROM",
    "select sum(a) over w from t window w as (partition by b)": "named WINDOW",
    "select sum(a) over (order by b range between 1 preceding and current row) from t": "RANGE",
    "select * from (values (1, 2)) as v (a, b)": "VALUES",
    "select sum(a) over (order by b) from t": "without a frame",
    "select count(distinct a) over (partition by b) from t": "count(distinct)",
    "select listagg(a) within group (order by a), listagg(b) within group (order by b desc) from t": "several",
    "with recursive r as (select 1 union all select 2) select * from r": "recursive",
    "select cast(a as numeric) from t": "numeric",
    "select max(a > 1) from t": "boolean",
    "select cast(a > 1 as varchar) from t": "boolean",
    "select avg(a) from t": "avg()",
    "select sum(a) / count(*) from t": "division",
    "select concat(a, b, c) from t": "concat()",
    "select regexp_replace(a, 'x', 'y') from t": "regexp_replace",
    "select a from t qualify row_number() over (partition by a order by b) = 1": "QUALIFY",
    "select a * interval '1 day' from t": "interval",
    "select a as tag from t": "reserved",
    "with new as (select 1 as a) select a from new": "reserved",
    "select 1 from t as open": "reserved",
    "select now()": "now()",
    "select current_timestamp": "clock",
    "select * from generate_series(1, 10)": "generate_series",
    "select string_agg(a, ',') from t": "string_agg",
    "select array_agg(a) from t": "array_agg",
    "select strftime(a, '%Y') from t": "strftime",
    "select max_by(a, b) from t": "max_by",
    "select epoch_ms(a) from t": "epoch_ms",
    "select quantile_cont(a, 0.5) from t": "quantile_cont",
    "select timezone('UTC', a) from t": "timezone",
    "select a, count(*) from t group by all": "GROUP BY ALL",
    "select * exclude (a) from t": "EXCLUDE",
    "with c as materialized (select 1 as a) select a from c": "MATERIALIZED",
    "select a from t order by a fetch first 1 rows only": "FETCH FIRST",
}
GOOD = (
    "select a, row_number() over (partition by b order by c, d) as row_rank from t",
    "select sum(a) over (partition by b order by c rows between unbounded preceding and current row) from t",
    "select cast(sum(a) as double precision) / nullif(count(*), 0) as share from t",
    "select avg(cast(a as double precision)) from t",
    "select listagg(a, ',') within group (order by a) as listed from t",
    "select sum(case when a > 1 then 1 else 0 end) as n, 'select now()' as text from t",
    "select convert_timezone('UTC', tz, cast('2026-01-01' as timestamp)) as at_utc from t",
    'select a as "new" from t',
    "select cast(a as numeric(18, 4)) as price, a || '-' || b as label from t",
)


@pytest.mark.parametrize("sql", BAD)
def test_what_redshift_refuses_or_misreads_is_found(sql: str) -> None:
    assert any(BAD[sql] in finding for finding in findings(sql)), findings(sql)


@pytest.mark.parametrize("sql", GOOD)
def test_what_redshift_runs_alike_is_let_through(sql: str) -> None:
    assert findings(sql) == []


@pytest.mark.parametrize("branch", ["full", "incremental"])
def test_every_model_compiles_for_redshift_without_a_warehouse_and_is_clean(tmp_path: Path, branch: str) -> None:
    variables = f"{{compile_incremental: {str(branch == 'incremental').lower()}}}"
    results = Warehouse(tmp_path).dbt(
        *("compile", "--target", "redshift", "--no-introspect", "--no-populate-cache", "--vars", variables)
    )
    compiled = {
        result.node.name: result.node.compiled_code
        for result in results
        if result.node.resource_type in ("model", "test") and result.node.compiled_code
    }
    assert len(compiled) > 100
    assert "generate_series" not in compiled["int_calendar"]
    assert ("read_up_to as" in compiled["int_days_touched"]) is (branch == "incremental")
    found = {name: findings(sql) for name, sql in compiled.items()}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
