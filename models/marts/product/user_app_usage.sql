with

apps as (

    select * from {{ ref('int_apps') }}

),

person_apps as (

    select * from {{ ref('int_person_apps') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(90) }}

),

person_blocks as (

    select * from {{ ref('int_person_app_blocks') }}

),

person_gaps as (

    select * from {{ ref('int_person_gaps') }}

),

people as (

    select * from {{ ref('dim_people') }}

),

account_hosts as (

    select * from {{ ref('int_account_hosts') }}

),

usage_bands as (

    select * from {{ ref('usage_bands') }}

),

-- the days of the windows, and what came before them by its first and last day
uses as (

    select
        org_id,
        app_id,
        person_id,
        usage_date,
        active_hours,
        day_basis,
        usage_date as first_used_on,
        usage_date as last_used_on,
        usage_date as told_on
    from person_days
    union all
    select
        org_id,
        app_id,
        person_id,
        null as usage_date,
        null as active_hours,
        null as day_basis,
        first_used_on,
        last_used_on,
        block_start_date + 27 as told_on
    from person_blocks

),

used as (

    select
        uses.org_id,
        uses.app_id,
        uses.person_id,
        {%- for days in [7, 28, 30, 90] %}
        sum(case when uses.usage_date > apps.as_of_date - {{ days }} then 1 else 0 end) as active_days_{{ days }},
        {%- endfor %}
        bit_or(case when uses.usage_date > apps.as_of_date - 28 then uses.active_hours end) as active_hours_28,
        {{ common_day_basis('case when uses.usage_date > apps.as_of_date - 30 then uses.day_basis end') }} as day_basis,
        min(uses.first_used_on) as first_used_date,
        max(uses.last_used_on) as last_used_date
    from uses
    inner join apps
        on uses.org_id = apps.org_id and uses.app_id = apps.app_id
    where uses.told_on <= apps.as_of_date
    group by 1, 2, 3

),

untold as (

    select
        person_gaps.org_id,
        person_gaps.app_id,
        {%- for days in [7, 28, 30, 90] %}
        sum(
            case when person_gaps.usage_date > apps.as_of_date - {{ days }} then person_gaps.untold_count end
        ) as untold_{{ days }},
        {%- endfor %}
        person_gaps.person_id
    from person_gaps
    inner join apps
        on person_gaps.org_id = apps.org_id and person_gaps.app_id = apps.app_id
    where person_gaps.usage_date <= apps.as_of_date
    group by person_gaps.org_id, person_gaps.app_id, person_gaps.person_id

),

lent as (

    select
        org_id,
        app_id,
        person_id,
        count(*) as host_count
    from account_hosts
    group by 1, 2, 3

),

joined as (

    select
        person_apps.org_id,
        person_apps.person_id,
        person_apps.app_id,
        people.user_email,
        coalesce(people.person_class, person_apps.person_class) as person_class,
        person_apps.usage_known,
        person_apps.sources,
        person_apps.has_access,
        person_apps.is_stated_used,
        person_apps.access_from,
        person_apps.is_access_inferred,
        person_apps.history_from,
        person_apps.source_count,
        apps.restate_days,
        apps.is_final,
        apps.data_complete_ratio,
        apps.as_of_date,
        used.first_used_date,
        used.last_used_date,
        used.active_hours_28,
        used.day_basis,
        lent.host_count,
        {%- for days in [7, 28, 30, 90] %}
        coalesce(used.active_days_{{ days }}, 0) as active_days_{{ days }},
        untold.untold_{{ days }},
        {%- endfor %}
        greatest(
            least(person_apps.access_from, used.first_used_date), apps.as_of_date - 29, people.started_on
        ) as eligible_from,
        greatest(people.on_leave_from, apps.as_of_date - 29) as leave_from,
        least(people.on_leave_to, apps.as_of_date) as leave_to,
        people.on_leave_from is not null as has_leave
    from person_apps
    inner join apps
        on person_apps.org_id = apps.org_id and person_apps.app_id = apps.app_id
    left join people
        on person_apps.org_id = people.org_id and person_apps.person_id = people.person_id
    left join used
        on
            person_apps.org_id = used.org_id
            and person_apps.app_id = used.app_id
            and person_apps.person_id = used.person_id
    left join untold
        on
            person_apps.org_id = untold.org_id
            and person_apps.app_id = untold.app_id
            and person_apps.person_id = untold.person_id
    left join lent
        on
            person_apps.org_id = lent.org_id
            and person_apps.app_id = lent.app_id
            and person_apps.person_id = lent.person_id

),

-- days on which the person could have used the app: since access was given and the first day at work, less a leave, but
-- no fewer than were used
eligible as (

    select
        joined.*,
        {%- for days in [7, 28, 30, 90] %}
        usage_known and {{ is_told(days, 'as_of_date', 'untold_' ~ days) }} as is_known_{{ days }},
        {%- endfor %}
        greatest(
            {{ days_between('eligible_from', 'as_of_date') }} + 1
            - case
                when has_leave
                    then greatest(0, {{ days_between('greatest(leave_from, eligible_from)', 'leave_to') }} + 1)
                else 0
            end,
            active_days_30
        ) as eligible_days
    from joined

),

banded as (

    select
        eligible.*,
        case
            when eligible.person_class in ('service', 'shared') then null
            when not eligible.is_known_30 then 'unknown'
            when eligible.active_days_30 > 0 then coalesce(own_bands.usage_band, usage_bands.usage_band)
            when eligible.eligible_days < 14 then 'new'
            else 'not_used'
        end as usage_band
    from eligible
    left join usage_bands
        on
            usage_bands.org_id = '*'
            and eligible.active_days_30 between usage_bands.least_active_days and usage_bands.most_active_days
    left join usage_bands as own_bands
        on
            eligible.org_id = own_bands.org_id
            and eligible.active_days_30 between own_bands.least_active_days and own_bands.most_active_days

),

-- what is not known of the use is not said of it
known as (

    select
        banded.*,
        case when usage_known then first_used_date end as known_first_date,
        case when usage_known then last_used_date end as known_last_date,
        -- not, if the vendor's listing knows of a use that no event told
        coalesce(history_from <= access_from and not is_stated_used, false) as is_seen_from_the_start,
        -- a use of before that would not have been seen, or may still come late
        first_used_date <= history_from + cast(restate_days as integer) as is_censored
    from banded

),

final as (

    select
        org_id,
        person_id,
        app_id,
        user_email,
        person_class,
        has_access,
        known_first_date as first_used_date,
        known_last_date as last_used_date,
        cast({{ days_between('known_last_date', 'as_of_date') }} as bigint) as days_since_last_used,
        case when is_known_90 then last_used_date is null and is_seen_from_the_start end as is_never_used,
        case
            when usage_known and last_used_date is null and not is_seen_from_the_start then history_from
        end as not_seen_since,
        case when known_first_date is not null then coalesce(is_censored, true) end as is_first_use_censored,
        case
            when known_first_date < access_from then 0
            when not is_censored and history_from <= access_from
                then cast({{ days_between('access_from', 'known_first_date') }} as bigint)
        end as activation_lag_days,
        -- a listing that broke down for a while tells of a new account late
        case
            when known_first_date >= access_from or not is_access_inferred then known_first_date < access_from
        end as is_used_before_access,
        {%- for days in [7, 28, 30, 90] %}
        case when is_known_{{ days }} then cast(active_days_{{ days }} as bigint) end as active_days_{{ days }},
        {%- endfor %}
        case
            when is_known_30 then cast(active_days_30 as double precision) / nullif(eligible_days, 0)
        end as active_day_rate_30,
        usage_band,
        -- no person is at work on 27 of 28 days and in 20 hours of the day, or at home with three others in a week
        case
            when person_class not in ('unknown', 'external') then null
            when is_known_28 and active_days_28 >= 27 and {{ bit_count('active_hours_28', 24) }} >= 20 then 'service'
            when is_known_7 and host_count >= 3 then 'shared'
        end as proposed_class,
        usage_known,
        case
            when not usage_known then 'source_silent'
            when not is_known_30 then 'incomplete_window'
        end as unknown_reason,
        coalesce(history_from > as_of_date - 29, true) as is_partial,
        usage_known and is_final as is_final,
        data_complete_ratio,
        case when is_known_30 then day_basis end as day_basis,
        sources,
        {{ definition_version() }} as definition_version,
        as_of_date
    from known

)

select * from final
