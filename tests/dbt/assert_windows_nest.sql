-- Who was active in the shorter window was active in the longer one: 0 <= dau <= wau <= mau_28 <= mau_30 <= mau_90.
with

windows as (

    select
        org_id,
        app_id,
        'human' as person_class,
        usage_date,
        dau,
        wau,
        mau_28,
        mau_30,
        mau_90,
        stickiness,
        data_complete_ratio
    from {{ ref('app_usage_daily') }}
    union all
    select
        org_id,
        app_id,
        person_class,
        usage_date,
        dau,
        wau,
        mau_28,
        mau_30,
        mau_90,
        null as stickiness,
        data_complete_ratio
    from {{ ref('app_usage_daily_classes') }}

)

select * from windows
where
    dau < 0
    or wau < 0
    or mau_28 < 0
    or mau_30 < 0
    or mau_90 < 0
    or dau > wau
    or wau > mau_28
    or mau_28 > mau_30
    or mau_30 > mau_90
    or stickiness not between 1 / 28.0 - 0.000001 and 1
    or data_complete_ratio not between 0 and 1
