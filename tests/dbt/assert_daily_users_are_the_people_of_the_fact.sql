-- The people of a day, counted straight from the fact, are the day's users.
{%- set untested = from_first_untested_day('usage_date') %}
with

counted as (

    select
        usage.org_id,
        usage.app_id,
        usage.usage_date,
        count(distinct accounts.person_id) as user_count
    from {{ ref('fct_app_usage_daily') }} as usage
    inner join {{ ref('dim_accounts') }} as accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    where usage.event_count > 0 and accounts.person_class = 'human' and {{ untested | replace('usage_date', 'usage.usage_date') }}
    group by 1, 2, 3

)

select
    daily.org_id,
    daily.app_id,
    daily.usage_date,
    daily.dau,
    counted.user_count
from {{ ref('app_usage_daily') }} as daily
left join counted
    on
        daily.org_id = counted.org_id
        and daily.app_id = counted.app_id
        and daily.usage_date = counted.usage_date
where daily.dau <> coalesce(counted.user_count, 0) and {{ untested | replace('usage_date', 'daily.usage_date') }}
