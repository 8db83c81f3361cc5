-- Fewer than N days since the last use, if and only if there is a use in the last N days; and windows nest.
select *
from {{ ref('user_app_usage') }}
where
    usage_known
    and (
        {%- for days in [7, 28, 30, 90] %}
        (coalesce(days_since_last_used < {{ days }}, false)) <> (active_days_{{ days }} >= 1) or
        {%- endfor %}
        active_days_7 > active_days_28
        or active_days_28 > active_days_30
        or active_days_30 > active_days_90
        or active_day_rate_30 not between 0 and 1
        or first_used_date > last_used_date
        or last_used_date > as_of_date
    )
