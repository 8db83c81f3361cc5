-- Where not every source of a person's use is complete, no figure says that there was none.
select *
from {{ ref('user_app_usage') }}
where
    not usage_known
    and (
        coalesce(last_used_date, first_used_date) is not null
        or coalesce(active_days_7, active_days_28, active_days_30, active_days_90) is not null
        or usage_band <> 'unknown'
    )
