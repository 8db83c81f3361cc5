-- Where the use of every person of an app is known, the app's figures are those of its people, counted one by one.
with

people as (

    select
        org_id,
        app_id,
        min(case when usage_known then 1 else 0 end) as all_known,
        {%- for days in [7, 28, 30, 90] %}
        sum(case when active_days_{{ days }} > 0 then 1 else 0 end) as users_{{ days }},
        {%- endfor %}
        cast(sum(active_days_30) as double precision) as active_days_30
    from {{ ref('user_app_usage') }}
    where person_class = 'human'
    group by 1, 2

)

select
    app_usage.org_id,
    app_usage.app_id
from {{ ref('app_usage') }} as app_usage
inner join people
    on app_usage.org_id = people.org_id and app_usage.app_id = people.app_id and people.all_known = 1
where
    app_usage.wau <> people.users_7
    {%- for days in [28, 30, 90] %}
    or app_usage.mau_{{ days }} <> people.users_{{ days }}
    {%- endfor %}
    or abs(app_usage.avg_active_days_30 * people.users_30 - people.active_days_30) > 0.000001
    or app_usage.adoption_rate not between 0 and 1
    or app_usage.trend < -1
    or (app_usage.cost_per_active_user is null) = (app_usage.cost_status is null)
