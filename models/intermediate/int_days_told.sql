-- what was told once cannot be told anew: a full refresh keeps it
{{ config(materialized='incremental', incremental_strategy='append', full_refresh=false) }}

-- depends_on: {{ ref('int_app_sources') }}, which says whose loads may be the cause

{%- set windows = {'event_count': 1, 'dau': 1, 'wau': 7, 'mau_28': 28, 'mau_30': 30, 'mau_90': 90} %}

with

daily as (

    select * from {{ ref('app_usage_daily') }}

),

ledger as (

    select * from {{ ref('int_days_touched') }}

),

{% if is_incremental() -%}
app_sources as (

    select * from {{ ref('int_app_sources') }}

),

restated as (

    select
        org_id,
        app_id,
        usage_date,
        max(telling) as telling
    from {{ this }}
    where telling > 1
    group by 1, 2, 3

),

latest as (

    select tellings.*
    from {{ this }} as tellings
    left join restated
        on
            tellings.org_id = restated.org_id
            and tellings.app_id = restated.app_id
            and tellings.usage_date = restated.usage_date
    where tellings.telling = coalesce(restated.telling, 1)

),

-- a day that is no more is one of which nothing is told
compared as (

    select
        coalesce(daily.org_id, latest.org_id) as org_id,
        coalesce(daily.app_id, latest.app_id) as app_id,
        coalesce(daily.usage_date, latest.usage_date) as usage_date,
        coalesce(latest.telling, 0) as telling,
        {%- for figure in windows %}
        daily.{{ figure }},
        {%- endfor %}
        -- how far back the farthest figure that is another now reaches; null if none is
        case
            {%- for figure, days in windows | dictsort(by='value', reverse=true) %}
            when not ({{ is_same('daily.' ~ figure, 'latest.' ~ figure) }}) then {{ days }}
            {%- endfor %}
        end as reach_days
    from daily
    full outer join latest
        on
            daily.org_id = latest.org_id
            and daily.app_id = latest.app_id
            and daily.usage_date = latest.usage_date

),

changed as (

    select *
    from compared
    where reach_days is not null

),

loads as (

    select
        changed.org_id,
        changed.app_id,
        changed.usage_date,
        ledger.connector || ' ' || ledger.load_id as load_name
    from changed
    inner join app_sources
        on changed.org_id = app_sources.org_id and changed.app_id = app_sources.app_id
    inner join ledger
        on
            changed.org_id = ledger.org_id
            and app_sources.connector = ledger.connector
            and ledger.usage_date between changed.usage_date - changed.reach_days + 1 and changed.usage_date
    where
        changed.telling > 0
        and ledger.batch_id > (select coalesce(max(told.batch_id), 0) from {{ this }} as told)
    group by 1, 2, 3, 4

),

causes as (

    select
        org_id,
        app_id,
        usage_date,
        {{ dbt.listagg('load_name', "', '", 'order by load_name') }} as load_ids
    from loads
    group by 1, 2, 3

),

final as (

    select
        changed.org_id,
        changed.app_id,
        changed.usage_date,
        changed.telling + 1 as telling,
        {{ now() }} as told_at,
        {%- for figure in windows %}
        changed.{{ figure }},
        {%- endfor %}
        causes.load_ids,
        (select coalesce(max(ledger.batch_id), 0) from ledger) as batch_id
    from changed
    left join causes
        on
            changed.org_id = causes.org_id
            and changed.app_id = causes.app_id
            and changed.usage_date = causes.usage_date

)
{%- else -%}
final as (

    select
        org_id,
        app_id,
        usage_date,
        cast(1 as bigint) as telling,
        {{ now() }} as told_at,
        {%- for figure in windows %}
        {{ figure }},
        {%- endfor %}
        cast(null as varchar(65535)) as load_ids,
        (select coalesce(max(ledger.batch_id), 0) from ledger) as batch_id
    from daily
    where coalesce({{ windows | join(', ') }}) is not null

)
{%- endif %}

select * from final
