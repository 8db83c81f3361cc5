{#- At the as-of day usage is known if nothing is overdue. #}
{%- set known_day -%}
case when calendar.calendar_date = months.as_of_date then months.expected_as_of_date else calendar.calendar_date end
{%- endset %}

with

seats as (

    select * from {{ ref('int_seats') }}

),

contracts as (

    select * from {{ ref('int_contracts') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

streams as (

    select * from {{ ref('int_streams') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

calendar as (

    select * from {{ ref('int_calendar') }}

),

person_apps as (

    select * from {{ ref('int_person_apps') }}

),

person_gaps as (

    select * from {{ ref('int_person_gaps') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(60) }}

),

person_blocks as (

    select * from {{ ref('int_person_app_blocks') }}

),

people as (

    select * from {{ ref('dim_people') }}

),

exemptions as (

    select * from {{ ref('stg_product__license_exemptions') }}

),

usage_settings as (

    select * from {{ ref('stg_product__usage_settings') }}

),

months as (

    select
        org_id,
        app_id,
        expected_as_of_date,
        as_of_date,
        cast({{ dbt.date_trunc('month', 'as_of_date') }} as date) as month_start
    from apps

),

-- a renewal under another name takes no day from the contract that was the only one on it
only_contracts as (

    select
        contracts.org_id,
        contracts.app_id,
        calendar.calendar_date as seat_date,
        min(contracts.published_name) as license_name
    from contracts
    inner join months
        on contracts.org_id = months.org_id and contracts.app_id = months.app_id
    inner join calendar
        on
            calendar.calendar_date between months.month_start and months.as_of_date
            and contracts.starts_on <= calendar.calendar_date
            and (contracts.ends_on >= calendar.calendar_date or contracts.ends_on is null)
    group by 1, 2, 3
    having count(distinct contracts.license_key) = 1

),

held as (

    select
        seats.*,
        calendar.calendar_date as seat_date,
        coalesce(
            case when seats.is_only_license then only_contracts.license_name end, seats.license_name
        ) as held_license_name,
        {{ known_day }} as must_be_known_through,
        row_number() over (
            partition by seats.org_id, seats.app_id, seats.license_name, seats.account_id, calendar.calendar_date
            order by
                case seats.account_status when 'suspended' then 2 else 1 end asc,
                seats.held_from desc,
                seats.connection_id asc,
                seats.stream asc,
                seats.record_id asc
        ) as listing
    from seats
    inner join months
        on seats.org_id = months.org_id and seats.app_id = months.app_id
    inner join calendar
        on
            calendar.calendar_date between months.month_start and months.as_of_date
            and calendar.calendar_date >= coalesce(seats.held_from, months.month_start)
            and calendar.calendar_date <= coalesce(seats.held_to, months.as_of_date)
    left join only_contracts
        on
            seats.org_id = only_contracts.org_id
            and seats.app_id = only_contracts.app_id
            and calendar.calendar_date = only_contracts.seat_date
    -- of what a connection listed that has ended, nobody knows who holds it from then on
    where seats.ended_on > {{ known_day }} or seats.ended_on is null

),

-- the last use before the month, and the days of use in it
used as (

    select
        earlier.org_id,
        earlier.app_id,
        earlier.person_id,
        max(earlier.used_on) as used_on
    from (
        select
            org_id,
            app_id,
            person_id,
            usage_date as used_on,
            usage_date as told_on
        from person_days
        union all
        select
            org_id,
            app_id,
            person_id,
            last_used_on as used_on,
            block_start_date + 27 as told_on
        from person_blocks
    ) as earlier
    inner join months
        on earlier.org_id = months.org_id and earlier.app_id = months.app_id
    where earlier.told_on < months.month_start
    group by 1, 2, 3
    union all
    select
        person_days.org_id,
        person_days.app_id,
        person_days.person_id,
        person_days.usage_date as used_on
    from person_days
    inner join months
        on person_days.org_id = months.org_id and person_days.app_id = months.app_id
    where person_days.usage_date between months.month_start and months.as_of_date

),

last_uses as (

    select
        org_id,
        app_id,
        person_id,
        used_on,
        lead(used_on) over (partition by org_id, app_id, person_id order by used_on) as used_again_on
    from used

),

exempted as (

    select
        org_id,
        app_id,
        user_email,
        max(coalesce(expires_on, cast('9999-12-31' as date))) as expires_on
    from exemptions
    group by 1, 2, 3

),

licenses as (

    select distinct
        org_id,
        app_id,
        held_license_name as license_name
    from held

),

-- what says most about a licence wins, value by value
settings_of_licenses as (

    select
        licenses.org_id,
        licenses.app_id,
        licenses.license_name,
        case
            when usage_settings.license_name is not null then 'license'
            when usage_settings.app_id is not null then 'app'
            else 'org'
        end as reach,
        usage_settings.idle_after_days,
        usage_settings.grace_days,
        usage_settings.underused_ratio
    from licenses
    inner join usage_settings
        on
            licenses.org_id = usage_settings.org_id
            and (licenses.app_id = usage_settings.app_id or usage_settings.app_id is null)
            and (
                {{ normalized_name('licenses.license_name') }} = {{ normalized_name('usage_settings.license_name') }}
                or usage_settings.license_name is null
            )

),

settings as (

    select
        org_id,
        app_id,
        {%- for name in ['idle_after_days', 'grace_days', 'underused_ratio'] %}
        coalesce(
            max(case when reach = 'license' then {{ name }} end),
            max(case when reach = 'app' then {{ name }} end),
            max(case when reach = 'org' then {{ name }} end)
        ) as {{ name }},
        {%- endfor %}
        license_name
    from settings_of_licenses
    group by org_id, app_id, license_name

),

joined as (

    select
        held.org_id,
        held.app_id,
        held.held_license_name as license_name,
        held.account_id,
        held.seat_date,
        held.person_id,
        held.user_email,
        held.person_class,
        held.account_status,
        held.assigned_on,
        coalesce(settings.idle_after_days, {{ var('idle_after_days') }}) as idle_after_days,
        coalesce(settings.grace_days, {{ var('grace_days') }}) as grace_days,
        coalesce(settings.underused_ratio, {{ var('underused_ratio') }}) as underused_ratio,
        {{ has_left('people', 'held.seat_date') }} as has_left,
        coalesce(
            held.seat_date >= people.on_leave_from
            and (held.seat_date <= people.on_leave_to or people.on_leave_to is null),
            false
        ) as is_on_leave,
        people.on_leave_from,
        people.on_leave_to,
        people.started_on,
        coalesce(exempted.expires_on >= held.seat_date, false) as is_exempted,
        -- an app that tells no events may tell when each account was last active
        coalesce(
            person_apps.known_through >= held.must_be_known_through
            or (
                not app_sources.has_events
                and held.tells_last_activity
                and {{ local_date('streams.complete_through', 'through_zones.time_zone') }} > held.must_be_known_through
            ),
            false
        ) as usage_known,
        coalesce(person_apps.history_from <= person_apps.access_from, false) as is_seen_from_the_start,
        coalesce(app_sources.has_events, true) as has_events,
        coalesce(person_apps.has_ended_source, false) as has_ended_source,
        person_apps.history_from,
        person_apps.source_count,
        -- of what a vendor states only the last is told: of a later day, it hides what came before
        greatest(
            last_uses.used_on,
            held.last_activity_on,
            case when held.seat_date >= held.next_told_from then held.next_activity_on end
        ) as last_used_date
    from held
    left join person_apps
        on
            held.org_id = person_apps.org_id
            and held.app_id = person_apps.app_id
            and held.person_id = person_apps.person_id
    left join app_sources
        on
            held.org_id = app_sources.org_id
            and held.app_id = app_sources.app_id
            and held.connection_id = app_sources.connection_id
    left join streams
        on held.connection_id = streams.connection_id and held.stream = streams.stream
    {{ join_time_zone('through_zones', 'held.org_id', 'streams.complete_through') }}
    left join people
        on held.org_id = people.org_id and held.person_id = people.person_id
    left join exempted
        on
            held.org_id = exempted.org_id
            and held.app_id = exempted.app_id
            and held.user_email = exempted.user_email
    left join settings
        on
            held.org_id = settings.org_id
            and held.app_id = settings.app_id
            and held.held_license_name = settings.license_name
    left join last_uses
        on
            held.org_id = last_uses.org_id
            and held.app_id = last_uses.app_id
            and held.person_id = last_uses.person_id
            and held.seat_date >= last_uses.used_on
            and (held.seat_date < last_uses.used_again_on or last_uses.used_again_on is null)
    where held.listing = 1

),

-- who seems idle may have used it on days of which nothing was told
untold as (

    select
        joined.org_id,
        joined.app_id,
        joined.license_name,
        joined.account_id,
        joined.seat_date,
        sum(person_gaps.untold_count) as untold_count
    from joined
    inner join person_gaps
        on
            joined.org_id = person_gaps.org_id
            and joined.app_id = person_gaps.app_id
            and joined.person_id = person_gaps.person_id
            and joined.seat_date >= person_gaps.usage_date
            and {{ days_between('person_gaps.usage_date', 'joined.seat_date') }} < joined.idle_after_days
    group by 1, 2, 3, 4, 5

),

judged as (

    select
        joined.*,
        -- who was on leave, or not hired again yet, has not left it unused
        coalesce(case
            when joined.on_leave_from <= joined.on_leave_to
                then greatest(0, {{ days_between(
                    'greatest(joined.on_leave_from, joined.last_used_date + 1, joined.started_on)',
                    'least(joined.on_leave_to, joined.seat_date)'
                ) }} + 1)
        end, 0)
        + coalesce(case
            when joined.started_on <= joined.seat_date
                then greatest(0, {{ days_between('joined.last_used_date', 'joined.started_on') }} - 1)
        end, 0) as days_away,
        untold.untold_count
    from joined
    left join untold
        on
            joined.org_id = untold.org_id
            and joined.app_id = untold.app_id
            and joined.license_name = untold.license_name
            and joined.account_id = untold.account_id
            and joined.seat_date = untold.seat_date

),

final as (

    select
        org_id,
        app_id,
        license_name,
        account_id,
        seat_date,
        person_id,
        user_email,
        case
            when person_class = 'service' or (is_exempted and not has_left) then 'exempt'
            when has_left then 'undeprovisioned'
            when account_status = 'suspended' then 'suspended'
            when not usage_known then 'unknown'
            when {{ days_between('last_used_date', 'seat_date') }} < idle_after_days then 'active'
            when {{ days_between('greatest(assigned_on, started_on)', 'seat_date') }} < grace_days or is_on_leave
                then 'grace'
            when {{ days_between('last_used_date', 'seat_date') }} - days_away < idle_after_days then 'grace'
            when not {{ is_told('idle_after_days', 'seat_date', 'untold_count') }} then 'unknown'
            -- of days before the sources began nobody told, or only one that has ended: too few have been since to call
            -- anything idle
            when
                has_events
                and (last_used_date is null or has_ended_source)
                and not is_seen_from_the_start
                and {{ days_between('history_from', 'seat_date') }} + 1
                < {{ var('min_complete_ratio') }} * idle_after_days
                then 'unknown'
            when last_used_date is null and is_seen_from_the_start then 'never_used'
            else 'idle'
        end as seat_state,
        usage_known,
        case when usage_known then last_used_date end as last_used_date,
        assigned_on,
        cast(underused_ratio as double precision) as underused_ratio
    from judged

)

select * from final
