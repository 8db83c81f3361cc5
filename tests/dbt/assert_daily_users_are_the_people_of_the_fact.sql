-- The people of a day, counted straight from the fact, are those that the steps of its windows begin with, be the day
-- known or not, and so its users once it is.
with

usage as (

    select * from {{ ref('fct_app_usage_daily') }}
    where {{ from_first_untested_day() }}

),

steps as (

    select
        org_id,
        app_id,
        usage_date,
        user_count
    from {{ ref('int_app_steps') }}
    where person_class = 'human'

),

untested_steps as (

    select * from steps
    where {{ from_first_untested_day() }}

),

counted as (

    select
        usage.org_id,
        usage.app_id,
        usage.usage_date,
        count(distinct accounts.person_id) as user_count
    from usage
    inner join {{ ref('dim_accounts') }} as accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    where usage.event_count > 0 and accounts.person_class = 'human'
    group by 1, 2, 3

)

select
    coalesce(counted.org_id, untested_steps.org_id) as org_id,
    coalesce(counted.app_id, untested_steps.app_id) as app_id,
    coalesce(counted.usage_date, untested_steps.usage_date) as usage_date
from counted
full outer join untested_steps
    on
        counted.org_id = untested_steps.org_id
        and counted.app_id = untested_steps.app_id
        and counted.usage_date = untested_steps.usage_date
where coalesce(counted.user_count, 0) <> coalesce(untested_steps.user_count, 0)
union all
select
    daily.org_id,
    daily.app_id,
    daily.usage_date
from {{ ref('app_usage_daily') }} as daily
left join steps
    on
        daily.org_id = steps.org_id
        and daily.app_id = steps.app_id
        and daily.usage_date = steps.usage_date
where daily.dau <> coalesce(steps.user_count, 0)
