{{ config(materialized='view') }}

-- no CTEs: DuckDB plans a view whenever it is read, and would take twice as long for them
select
    org_id,
    app_id,
    person_class,
    usage_date,
    dau,
    wau,
    mau_28,
    mau_30,
    mau_90,
    is_final,
    is_partial,
    usage_known,
    data_complete_ratio,
    sources,
    {{ definition_version() }} as definition_version
from {{ ref('int_app_class_days') }}
where person_class <> 'human'
