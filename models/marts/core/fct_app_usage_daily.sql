{{ config(materialized='incremental', incremental_strategy='replace_days', unique_key=['org_id', 'usage_date']) }}

{%- set version = definition_of_usage() %}

with

events as (

    select * from {{ ref('int_events') }}
    {% if is_incremental() -%}
    where {{ within_days_to_count() }}
    {%- endif %}

),

ledger as (

    select * from {{ ref('int_days_touched') }}

),

days_to_count as (

    select distinct
        org_id,
        usage_date
    from ledger
    {% if is_incremental() -%}
    where ledger_id > {{ counted_up_to() }}
    {%- endif %}

),

events_to_count as (

    select
        events.*,
        {{ source_rank('events.source_kind') }} as source_rank
    from events
    inner join days_to_count
        on events.org_id = days_to_count.org_id and events.usage_date = days_to_count.usage_date
    where events.account_key is not null and events.actor_kind <> 'system'

),

counted_by_source as (

    select
        org_id,
        app_id,
        connection_id,
        connector,
        account_key,
        usage_date,
        source_rank,
        max(user_email) as user_email,
        min(actor_kind) as actor_kind,
        {{ common_day_basis("case when occurred_on is null then 'instant' else 'date' end") }} as day_basis,
        sum(case when is_activity then coalesce(event_count, 1) else 0 end) as event_count,
        -- a bit for each hour of the day
        bit_or(
            case when is_activity then cast(1 as bigint) << cast(extract(hour from occurred_at) as integer) end
        ) as active_hours,
        min(case when is_activity then occurred_at end) as first_used_at,
        max(case when is_activity then occurred_at end) as last_used_at,
        max(occurred_at) as last_event_at,
        max(loaded_at) as last_loaded_at,
        max(
            case
                when
                    source_kind = 'oauth_grant'
                    and (activity_class = 'API Activity' or activity = 'Assign Privileges')
                    then occurred_at
            end
        ) as last_granted_at,
        max(
            case when source_kind = 'oauth_grant' and activity = 'Revoke Privileges' then occurred_at end
        ) as last_revoked_at
    from events_to_count
    group by 1, 2, 3, 4, 5, 6, 7

),

-- the same use seen by two sources is one use: volume comes from the surest source that saw any
counted as (

    select
        org_id,
        app_id,
        connection_id,
        connector,
        account_key,
        usage_date,
        max(user_email) as user_email,
        min(actor_kind) as actor_kind,
        {{ common_day_basis('day_basis') }} as day_basis,
        coalesce(min(case when event_count > 0 then source_rank end), min(source_rank)) as source_rank,
        coalesce({{ of_the_surest('nullif(event_count, 0)') }}, 0) as event_count,
        bit_or(active_hours) as active_hours,
        min(first_used_at) as first_used_at,
        max(last_used_at) as last_used_at,
        max(last_event_at) as last_event_at,
        max(last_loaded_at) as last_loaded_at,
        max(last_granted_at) as last_granted_at,
        max(last_revoked_at) as last_revoked_at
    from counted_by_source
    group by org_id, app_id, connection_id, connector, account_key, usage_date
    {%- if is_incremental() %}
    union all
    -- not kept: by it replace_days knows that the day was counted, if nothing is left on it
    select
        org_id,
        null as app_id,
        null as connection_id,
        null as connector,
        null as account_key,
        usage_date,
        null as user_email,
        null as actor_kind,
        null as day_basis,
        null as source_rank,
        null as event_count,
        null as active_hours,
        null as first_used_at,
        null as last_used_at,
        null as last_event_at,
        null as last_loaded_at,
        null as last_granted_at,
        null as last_revoked_at
    from days_to_count
    {%- endif %}

),

final as (

    select
        org_id,
        app_id,
        connection_id,
        connector,
        account_key,
        usage_date,
        user_email,
        actor_kind,
        day_basis,
        {{ source_kind('source_rank') }} as source_kind,
        cast(event_count as bigint) as event_count,
        cast(active_hours as bigint) as active_hours,
        first_used_at,
        last_used_at,
        last_event_at,
        last_loaded_at,
        last_granted_at,
        last_revoked_at,
        (select max(ledger.ledger_id) from ledger) as ledger_id,
        '{{ version }}' as definition_version
    from counted

)

select * from final
order by usage_date
