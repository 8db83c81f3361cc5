-- Where not every source of a person's use is complete, or an app's are silent, no figure says that there was none.
select
    org_id,
    app_id,
    person_id
from {{ ref('user_app_usage') }}
where
    not usage_known
    and (
        coalesce(last_used_date, first_used_date) is not null
        or coalesce(active_days_7, active_days_28, active_days_30, active_days_90) is not null
        or usage_band <> 'unknown'
    )
union all
select
    org_id,
    app_id,
    null as person_id
from {{ ref('app_usage') }}
where
    not usage_known
    and (
        coalesce(dau, wau, mau_28, mau_30, mau_90) is not null
        or coalesce(stickiness, avg_active_days_30, adoption_rate, trend, cost_per_active_user) is not null
        or usage_band <> 'unknown'
    )
