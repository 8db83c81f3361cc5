with

seat_days as (

    select * from {{ ref('fct_seat_days') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

usage as (

    select * from {{ ref('user_app_usage') }}

),

final as (

    select
        seat_days.org_id,
        seat_days.app_id,
        seat_days.license_name,
        seat_days.account_id,
        seat_days.person_id,
        coalesce(seat_days.user_email, usage.user_email) as user_email,
        seat_days.seat_state,
        seat_days.seat_state = 'active'
        and coalesce(usage.active_day_rate_30 < seat_days.underused_ratio and not usage.is_partial, false)
            as is_underused,
        seat_days.last_used_date,
        seat_days.assigned_on,
        seat_days.usage_known,
        coalesce(usage.is_partial, true) as is_partial,
        seat_days.usage_known and apps.is_final as is_final,
        usage.data_complete_ratio,
        usage.sources,
        {{ definition_version() }} as definition_version,
        apps.as_of_date
    from seat_days
    inner join apps
        on
            seat_days.org_id = apps.org_id
            and seat_days.app_id = apps.app_id
            and seat_days.seat_date = apps.as_of_date
    left join usage
        on
            seat_days.org_id = usage.org_id
            and seat_days.app_id = usage.app_id
            and seat_days.person_id = usage.person_id

)

select * from final
