{%- set reasons = ['left_company', 'lost_access', 'stopped_using'] %}

with

apps as (

    select * from {{ ref('int_apps') }}

),

app_sources as (

    select * from {{ ref('int_app_sources') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

used_blocks as (

    select * from {{ ref('int_person_app_blocks') }}
    where person_class = 'human'

),

people as (

    select * from {{ ref('dim_people') }}

),

evidence as (

    select * from {{ ref('int_evidence') }}

),

account_states as (

    select * from {{ ref('int_account_states') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

source_blocks as (

    select
        connection_id,
        {{ block_starts_on('usage_date') }} as block_start_date,
        sum(case when is_complete then 1 else 0 end) as complete_count,
        count(*) as day_count
    from source_days
    group by 1, 2

),

app_blocks as (

    select
        app_sources.org_id,
        app_sources.app_id,
        source_blocks.block_start_date,
        -- of a day on which one source had ended, and the next had not begun, nobody told
        cast(sum(source_blocks.complete_count) as double precision) / greatest(sum(source_blocks.day_count), 28)
            as data_complete_ratio
    from app_sources
    inner join source_blocks
        on app_sources.connection_id = source_blocks.connection_id
    group by 1, 2, 3

),

-- in the block, or in the one before: whom a source showed that has ended is not seen any more, and did not leave, and
-- whom one shows that has begun may have been there before
changes as (

    select distinct
        app_blocks.org_id,
        app_blocks.app_id,
        app_blocks.block_start_date
    from app_blocks
    inner join app_sources
        on
            app_blocks.org_id = app_sources.org_id
            and app_blocks.app_id = app_sources.app_id
            and (
                app_sources.ended_on between app_blocks.block_start_date - 27 and app_blocks.block_start_date + 27
                or app_sources.starts_on between app_blocks.block_start_date - 27 and app_blocks.block_start_date + 27
            )

),

-- whole blocks only, of which something is known from the first day to the last
blocks as (

    select
        app_blocks.org_id,
        app_blocks.app_id,
        app_blocks.block_start_date,
        app_blocks.block_start_date + 27 as block_end_date,
        app_blocks.data_complete_ratio,
        lag(app_blocks.data_complete_ratio) over (
            partition by app_blocks.org_id, app_blocks.app_id order by app_blocks.block_start_date
        ) as previous_complete_ratio,
        changes.app_id is null as is_seen_as_before,
        apps.first_seen_on,
        apps.restate_days
    from app_blocks
    inner join apps
        on app_blocks.org_id = apps.org_id and app_blocks.app_id = apps.app_id
    left join changes
        on
            app_blocks.org_id = changes.org_id
            and app_blocks.app_id = changes.app_id
            and app_blocks.block_start_date = changes.block_start_date
    where app_blocks.block_start_date >= apps.complete_from and app_blocks.block_start_date + 27 <= apps.as_of_date

),

neighbours as (

    select
        used_blocks.*,
        lag(block_start_date) over (
            partition by org_id, app_id, person_id order by block_start_date
        ) as previous_start_date,
        lead(block_start_date) over (
            partition by org_id, app_id, person_id order by block_start_date
        ) as next_start_date
    from used_blocks

),

came as (

    select
        org_id,
        app_id,
        block_start_date,
        count(*) as active,
        sum(case when previous_start_date = block_start_date - 28 then 1 else 0 end) as retained,
        sum(case when previous_start_date is null then 1 else 0 end) as arrived,
        sum(case when previous_start_date < block_start_date - 28 then 1 else 0 end) as resurrected
    from neighbours
    group by 1, 2, 3

),

gone as (

    select
        neighbours.org_id,
        neighbours.app_id,
        neighbours.person_id,
        neighbours.block_start_date + 28 as block_start_date,
        {{ day_starts_at('neighbours.block_start_date + 56', 'time_zones.time_zone') }} as block_ended_at
    from neighbours
    inner join time_zones
        on
            neighbours.org_id = time_zones.org_id
            and neighbours.block_start_date + 56 between time_zones.first_date and time_zones.last_date
    where neighbours.next_start_date is null or neighbours.next_start_date > neighbours.block_start_date + 28

),

-- of an app that no listing shows nobody can be said to have lost it
listings as (

    select distinct
        connection_id,
        app_id
    from account_states
    where is_complete_listing

),

listed as (

    select distinct
        evidence.org_id,
        evidence.app_id,
        evidence.person_id
    from evidence
    inner join listings
        on evidence.connection_id = listings.connection_id and evidence.app_id = listings.app_id

),

able as (

    select distinct
        gone.org_id,
        gone.app_id,
        gone.person_id,
        gone.block_start_date
    from gone
    inner join accounts
        on gone.org_id = accounts.org_id and gone.person_id = accounts.person_id
    inner join account_states
        on
            accounts.connection_id = account_states.connection_id
            and accounts.account_key = account_states.account_id
            and gone.app_id = account_states.app_id
            and gone.block_ended_at > account_states.valid_from
            and gone.block_ended_at <= coalesce(account_states.valid_to, gone.block_ended_at)
    where
        {{ can_log_in('account_states') }}
        -- what a connection listed that has ended proves no access
        and (account_states.ended_on > gone.block_start_date + 27 or account_states.ended_on is null)

),

leavers as (

    select
        gone.org_id,
        gone.app_id,
        gone.block_start_date,
        case
            when
                {{ has_left('people', 'gone.block_start_date + 27') }}
                or {{ has_left('people', 'gone.block_start_date + 27', 'garden_leave_from') }}
                then 'left_company'
            when listed.person_id is not null and able.person_id is null then 'lost_access'
            else 'stopped_using'
        end as reason
    from gone
    left join people
        on gone.org_id = people.org_id and gone.person_id = people.person_id
    left join listed
        on gone.org_id = listed.org_id and gone.app_id = listed.app_id and gone.person_id = listed.person_id
    left join able
        on
            gone.org_id = able.org_id
            and gone.app_id = able.app_id
            and gone.person_id = able.person_id
            and gone.block_start_date = able.block_start_date

),

went as (

    select
        org_id,
        app_id,
        block_start_date,
        {%- for reason in reasons %}
        sum(case when reason = '{{ reason }}' then 1 else 0 end) as churned_{{ reason }},
        {%- endfor %}
        count(*) as churned
    from leavers
    group by 1, 2, 3

),

connectors as (

    select distinct
        blocks.org_id,
        blocks.app_id,
        blocks.block_start_date,
        app_sources.connector
    from blocks
    inner join app_sources
        on
            blocks.org_id = app_sources.org_id
            and blocks.app_id = app_sources.app_id
            and blocks.block_end_date >= app_sources.starts_on

),

sources as (

    select
        org_id,
        app_id,
        block_start_date,
        {{ dbt.listagg('connector', "','", 'order by connector') }} as sources
    from connectors
    group by 1, 2, 3

),

joined as (

    select
        blocks.*,
        sources.sources,
        blocks.data_complete_ratio >= {{ var('min_complete_ratio') }} as is_known,
        blocks.data_complete_ratio >= {{ var('min_complete_ratio') }}
        and coalesce(blocks.previous_complete_ratio >= {{ var('min_complete_ratio') }}, false)
        and blocks.is_seen_as_before as is_comparable,
        {{ local_date(now(), 'orgs.time_zone') }} as today,
        {%- for figure in ['active', 'retained', 'arrived', 'resurrected'] %}
        cast(coalesce(came.{{ figure }}, 0) as bigint) as {{ figure }},
        {%- endfor %}
        {%- for reason in reasons %}
        cast(coalesce(went.churned_{{ reason }}, 0) as bigint) as churned_{{ reason }},
        {%- endfor %}
        cast(coalesce(went.churned, 0) as bigint) as churned
    from blocks
    inner join orgs
        on blocks.org_id = orgs.org_id
    left join sources
        on
            blocks.org_id = sources.org_id
            and blocks.app_id = sources.app_id
            and blocks.block_start_date = sources.block_start_date
    left join came
        on
            blocks.org_id = came.org_id
            and blocks.app_id = came.app_id
            and blocks.block_start_date = came.block_start_date
    left join went
        on
            blocks.org_id = went.org_id
            and blocks.app_id = went.app_id
            and blocks.block_start_date = went.block_start_date

),

final as (

    select
        org_id,
        app_id,
        block_start_date,
        cast(28 as bigint) as block_days,
        case when is_known then active end as active,
        case when is_comparable then retained end as retained,
        case when is_comparable then arrived end as "new",  -- noqa: RF06, reserved in Redshift
        case when is_comparable then resurrected end as resurrected,
        case when is_comparable then churned end as churned,
        {%- for reason in reasons %}
        case when is_comparable then churned_{{ reason }} end as churned_{{ reason }},
        {%- endfor %}
        case
            when is_comparable then cast(retained as double precision) / nullif(retained + churned, 0)
        end as retention_rate,
        case
            when is_comparable then cast(arrived + resurrected as double precision) / nullif(churned, 0)
        end as quick_ratio,
        coalesce(is_comparable and retained + churned < 5, false) as is_small,
        is_known as usage_known,
        is_known and {{ days_between('block_end_date', 'today') }} > restate_days as is_final,
        data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version
    from joined
    where block_end_date >= first_seen_on

)

select * from final
order by block_start_date
