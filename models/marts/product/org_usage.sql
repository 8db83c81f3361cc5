with

orgs as (

    select * from {{ ref('int_orgs') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

person_days as (

    select * from {{ ref('int_person_app_days') }}
    where {{ within_last_days(90) }}

),

connectors as (

    select distinct
        org_id,
        connector
    from source_days

),

sources as (

    select
        org_id,
        {{ dbt.listagg('connector', "','", 'order by connector') }} as sources
    from connectors
    group by 1

),

-- the last day that the slowest of its apps should be complete for; one whose sources never told a day holds nothing up
as_of as (

    select
        org_id,
        min(expected_as_of_date) as as_of_date,
        min(case when is_final then 1 else 0 end) = 1 as is_final
    from apps
    where complete_from is not null
    group by 1

),

org_days as (

    select
        source_days.org_id,
        source_days.usage_date,
        as_of.as_of_date,
        count(*) as source_count,
        sum(case when source_days.is_complete then 1 else 0 end) as complete_count
    from source_days
    inner join as_of
        on source_days.org_id = as_of.org_id
    where source_days.usage_date <= as_of.as_of_date
    group by 1, 2, 3

),

completeness as (

    select
        org_id,
        {%- for days in [1, 7, 28, 30, 90] %}
        -- a day of which nobody was left to tell is as untold as one on which a source failed
        cast(sum(case when usage_date > as_of_date - {{ days }} then complete_count end) as double precision)
        / (
            sum(case when usage_date > as_of_date - {{ days }} then source_count - 1 end)
            + least({{ days }}, {{ days_between('min(usage_date)', 'max(as_of_date)') }} + 1)
        ) as complete_ratio_{{ days }},
        {%- endfor %}
        sum(
            case when complete_count >= {{ var('min_complete_ratio') }} * source_count then 1 else 0 end
        ) as complete_day_count
    from org_days
    group by 1

),

-- who was last active within a window was active in it
last_uses as (

    select
        person_days.org_id,
        person_days.app_id,
        person_days.person_id,
        as_of.as_of_date,
        max(person_days.usage_date) as last_used_date
    from person_days
    inner join as_of
        on person_days.org_id = as_of.org_id
    where
        person_days.person_class = 'human'
        and person_days.usage_date between as_of.as_of_date - 89 and as_of.as_of_date
    group by 1, 2, 3, 4

),

used as (

    select
        org_id,
        {%- for days in [1, 7, 28, 30, 90] %}
        count(distinct case when last_used_date > as_of_date - {{ days }} then person_id end) as users_{{ days }},
        {%- endfor %}
        count(distinct case when last_used_date > as_of_date - 30 then app_id end) as apps_used_30
    from last_uses
    group by 1

),

joined as (

    select
        orgs.org_id,
        as_of.as_of_date,
        {%- for days in [1, 7, 28, 30, 90] %}
        case
            when completeness.complete_ratio_{{ days }} >= {{ var('min_complete_ratio') }}
                then coalesce(used.users_{{ days }}, 0)
        end as users_{{ days }},
        {%- endfor %}
        case
            when completeness.complete_ratio_30 >= {{ var('min_complete_ratio') }} then coalesce(used.apps_used_30, 0)
        end as apps_used_30,
        coalesce(completeness.complete_day_count, 0) < 28 as is_partial,
        coalesce(completeness.complete_ratio_1 > 0, false) as usage_known,
        coalesce(completeness.complete_ratio_1 > 0 and as_of.is_final, false) as is_final,
        completeness.complete_ratio_30,
        sources.sources
    from orgs
    left join as_of
        on orgs.org_id = as_of.org_id
    left join completeness
        on orgs.org_id = completeness.org_id
    left join used
        on orgs.org_id = used.org_id
    left join sources
        on orgs.org_id = sources.org_id

),

final as (

    select
        org_id,
        users_1 as dau,
        users_7 as wau,
        users_28 as mau_28,
        users_30 as mau_30,
        users_90 as mau_90,
        apps_used_30,
        usage_known,
        is_partial,
        is_final,
        complete_ratio_30 as data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version,
        as_of_date
    from joined

)

select * from final
