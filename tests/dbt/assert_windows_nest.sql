-- Who was active in the shorter window was active in the longer one: dau <= wau <= mau_28 <= mau_30 <= mau_90.
select *
from {{ ref('app_usage_daily') }}
where
    dau > wau
    or wau > mau_28
    or mau_28 > mau_30
    or mau_30 > mau_90
    or stickiness not between 1 / 28.0 - 0.000001 and 1
    or data_complete_ratio not between 0 and 1
