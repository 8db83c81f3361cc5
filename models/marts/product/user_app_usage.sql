with

apps as (

    select * from {{ ref('int_apps') }}

),

evidence as (

    select * from {{ ref('int_evidence') }}

),

streams as (

    select * from {{ ref('int_streams') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}

),

people as (

    select * from {{ ref('dim_people') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

usage_bands as (

    select * from {{ ref('usage_bands') }}

),

complete_sources as (

    select
        connection_id,
        max(usage_date) as complete_on
    from source_days
    where is_complete
    group by 1

),

-- known only if everything that ever showed the person in the app goes on showing: the connection's events, and the
-- listing that the account came from
judged_evidence as (

    select
        evidence.org_id,
        evidence.app_id,
        evidence.person_id,
        evidence.person_class,
        evidence.connector,
        evidence.access_from,
        case
            when
                complete_sources.complete_on >= apps.expected_as_of_date
                and (
                    evidence.shown_by = 'events'
                    or {{ local_date('streams.complete_through', 'orgs.time_zone') }} > apps.expected_as_of_date
                )
                then 1
            else 0
        end as is_current
    from evidence
    inner join apps
        on evidence.org_id = apps.org_id and evidence.app_id = apps.app_id
    inner join orgs
        on evidence.org_id = orgs.org_id
    left join complete_sources
        on evidence.connection_id = complete_sources.connection_id
    left join streams
        on evidence.connection_id = streams.connection_id and evidence.shown_by = streams.stream

),

connectors as (

    select distinct
        org_id,
        app_id,
        person_id,
        connector
    from judged_evidence

),

sources as (

    select
        org_id,
        app_id,
        person_id,
        {{ dbt.listagg('connector', "','", 'order by connector') }} as sources
    from connectors
    group by 1, 2, 3

),

pairs as (

    select
        org_id,
        app_id,
        person_id,
        min(person_class) as person_class,
        min(access_from) as access_from,
        min(is_current) = 1 as usage_known
    from judged_evidence
    group by 1, 2, 3

),

used as (

    select
        person_days.org_id,
        person_days.app_id,
        person_days.person_id,
        {%- for days in [7, 28, 30, 90] %}
        sum(
            case when person_days.usage_date > apps.as_of_date - {{ days }} then 1 else 0 end
        ) as active_days_{{ days }},
        {%- endfor %}
        min(person_days.usage_date) as first_used_date,
        max(person_days.usage_date) as last_used_date
    from person_days
    inner join apps
        on person_days.org_id = apps.org_id and person_days.app_id = apps.app_id
    where person_days.usage_date <= apps.as_of_date
    group by 1, 2, 3

),

joined as (

    select
        pairs.org_id,
        pairs.person_id,
        pairs.app_id,
        people.user_email,
        coalesce(people.person_class, pairs.person_class) as person_class,
        pairs.usage_known,
        sources.sources,
        apps.as_of_date,
        used.first_used_date,
        used.last_used_date,
        {%- for days in [7, 28, 30, 90] %}
        coalesce(used.active_days_{{ days }}, 0) as active_days_{{ days }},
        {%- endfor %}
        greatest(least(pairs.access_from, used.first_used_date), apps.as_of_date - 29) as eligible_from,
        greatest(people.on_leave_from, apps.as_of_date - 29) as leave_from,
        least(people.on_leave_to, apps.as_of_date) as leave_to,
        people.on_leave_from is not null as has_leave
    from pairs
    inner join apps
        on pairs.org_id = apps.org_id and pairs.app_id = apps.app_id
    inner join sources
        on pairs.org_id = sources.org_id and pairs.app_id = sources.app_id and pairs.person_id = sources.person_id
    left join people
        on pairs.org_id = people.org_id and pairs.person_id = people.person_id
    left join used
        on pairs.org_id = used.org_id and pairs.app_id = used.app_id and pairs.person_id = used.person_id

),

-- days on which the person could have used the app: since access was given, less a leave, but no fewer than were used
eligible as (

    select
        joined.*,
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
            when not eligible.usage_known then 'unknown'
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

final as (

    select
        org_id,
        person_id,
        app_id,
        user_email,
        person_class,
        case when usage_known then first_used_date end as first_used_date,
        case when usage_known then last_used_date end as last_used_date,
        case
            when usage_known then cast({{ days_between('last_used_date', 'as_of_date') }} as bigint)
        end as days_since_last_used,
        {%- for days in [7, 28, 30, 90] %}
        case when usage_known then cast(active_days_{{ days }} as bigint) end as active_days_{{ days }},
        {%- endfor %}
        case
            when usage_known then cast(active_days_30 as double precision) / nullif(eligible_days, 0)
        end as active_day_rate_30,
        usage_band,
        usage_known,
        sources,
        as_of_date
    from banded

)

select * from final
