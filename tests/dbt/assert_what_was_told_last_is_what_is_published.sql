-- The ledger knows of every change of a day: its last entry is the day as it is.
with

last_tellings as (

    select
        org_id,
        app_id,
        usage_date,
        max(telling) as telling
    from {{ ref('int_days_told') }}
    group by 1, 2, 3

),

told as (

    select days_told.*
    from {{ ref('int_days_told') }} as days_told
    inner join last_tellings
        on
            days_told.org_id = last_tellings.org_id
            and days_told.app_id = last_tellings.app_id
            and days_told.usage_date = last_tellings.usage_date
            and days_told.telling = last_tellings.telling

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
