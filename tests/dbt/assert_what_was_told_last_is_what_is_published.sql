-- The ledger knows of every change of a day: its last entry is the day as it is.
with

days_told as (

    select * from {{ ref('int_days_told') }}

),

restated as (

    select
        org_id,
        app_id,
        usage_date,
        max(telling) as telling
    from days_told
    where telling > 1
    group by 1, 2, 3

),

told as (

    select days_told.*
    from days_told
    left join restated
        on
            days_told.org_id = restated.org_id
            and days_told.app_id = restated.app_id
            and days_told.usage_date = restated.usage_date
    where days_told.telling = coalesce(restated.telling, 1)

)

select
    daily.org_id,
    daily.app_id,
    daily.usage_date
from {{ ref('app_usage_daily') }} as daily
left join told
    on daily.org_id = told.org_id and daily.app_id = told.app_id and daily.usage_date = told.usage_date
where
    1 = 0
    {%- for figure in ['event_count', 'dau', 'wau', 'mau_28', 'mau_30', 'mau_90'] %}
    or not ({{ is_same('daily.' ~ figure, 'told.' ~ figure) }})
    {%- endfor %}
