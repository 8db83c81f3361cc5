{%- set have_all_ended -%}
min(case when app_sources.ended_on is null then 0 else 1 end) over (
            partition by evidence.org_id, evidence.app_id, evidence.person_id
        ) = 1
{%- endset %}

with

evidence as (

    select * from {{ ref('int_evidence') }}

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

-- known as far as everything that ever showed the person in the app has told: the connection's events, and the listing
-- that the account came from; a connection without events has none to tell
judged_evidence as (

    select
        evidence.org_id,
        evidence.app_id,
        evidence.person_id,
        evidence.person_class,
        evidence.connector,
        evidence.connection_id,
        evidence.access_from,
        evidence.listed_from,
        -- an account that a connection listed which has ended: nobody knows, and no access where nothing else shows it
        case
            when evidence.open_account_count > 0 and app_sources.ended_on is not null
                then case when {{ have_all_ended }} then 0 end
            else evidence.open_account_count
        end as open_account_count,
        evidence.used_account_count,
        app_sources.starts_on,
        app_sources.ended_on is null as goes_on,
        -- one that has ended tells of a person only whom none that goes on has shown
        {{ have_all_ended }} or app_sources.ended_on is null as is_heard,
        case
            when not app_sources.has_events then null
            when app_sources.complete_on is null then cast('2000-01-01' as date)
            when evidence.shown_by = 'events' then app_sources.complete_on
            when streams.complete_through is null then cast('2000-01-01' as date)
            else
                least(
                    app_sources.complete_on, {{ local_date('streams.complete_through', 'through_zones.time_zone') }} - 1
                )
        end as known_through
    from evidence
    left join app_sources
        on
            evidence.org_id = app_sources.org_id
            and evidence.app_id = app_sources.app_id
            and evidence.connection_id = app_sources.connection_id
    left join streams
        on evidence.connection_id = streams.connection_id and evidence.shown_by = streams.stream
    {{ join_time_zone('through_zones', 'evidence.org_id', 'streams.complete_through') }}

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

person_apps as (

    select
        org_id,
        app_id,
        person_id,
        min(person_class) as person_class,
        -- where nobody says, whom no first listing knew came with the one that did
        coalesce(
            min(access_from), case when min(listed_from) > cast('2000-01-01' as date) then min(listed_from) end
        ) as access_from,
        min(access_from) is null as is_access_inferred,
        max(starts_on) as history_from,
        count(distinct case when starts_on is not null and is_heard then connection_id end) as source_count,
        coalesce(min(case when is_heard then known_through end), cast('2000-01-01' as date)) as known_through,
        max(case when goes_on then 1 else 0 end) = 1 as goes_on,
        max(case when goes_on then 0 else 1 end) = 1 as has_ended_source,
        sum(open_account_count) as open_account_count,
        sum(used_account_count) as used_account_count
    from judged_evidence
    group by 1, 2, 3

),

final as (

    select
        person_apps.org_id,
        person_apps.app_id,
        person_apps.person_id,
        person_apps.person_class,
        sources.sources,
        person_apps.access_from,
        person_apps.is_access_inferred,
        person_apps.history_from,
        person_apps.source_count,
        person_apps.known_through,
        person_apps.goes_on,
        person_apps.has_ended_source,
        person_apps.goes_on and person_apps.known_through >= apps.expected_as_of_date as usage_known,
        coalesce(person_apps.open_account_count > 0, true) as has_access,
        coalesce(person_apps.used_account_count > 0, false) as is_stated_used
    from person_apps
    inner join apps
        on person_apps.org_id = apps.org_id and person_apps.app_id = apps.app_id
    inner join sources
        on
            person_apps.org_id = sources.org_id
            and person_apps.app_id = sources.app_id
            and person_apps.person_id = sources.person_id

)

select * from final
