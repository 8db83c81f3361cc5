{{ config(materialized='view') }}

with

events as (
    {{ union_vendors('events') }}
),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

app_names as (

    select * from {{ ref('int_app_names') }}

),

activity_types as (

    select * from {{ ref('activity_types') }}

),

placed as (

    select
        events.*,
        {{ app_id('events.app_name', 'app_names.app_id') }} as app_id,
        coalesce(events.account_id, events.user_email) as account_key,
        coalesce(events.occurred_on, {{ local_date('events.occurred_at', 'time_zones.time_zone') }}) as usage_date,
        coalesce(exact_type.activity_class, any_type.activity_class, 'Base Event') as activity_class,
        coalesce(exact_type.activity, any_type.activity, 'Unknown') as activity,
        coalesce(exact_type.is_activity, any_type.is_activity, false) and events.status <> 'failure' as is_activity
    from events
    left join app_names
        on {{ normalized_name('events.app_name') }} = app_names.normalized_name
    left join activity_types as exact_type
        on
            events.connector = exact_type.connector
            and events.stream = exact_type.stream
            and events.event_code = exact_type.event_code
    left join activity_types as any_type
        on
            events.connector = any_type.connector
            and events.stream = any_type.stream
            and any_type.event_code = '*'
    -- the last one, and a left join: a bound on time takes DuckDB longer than all others, and would make theirs longer
    {{ join_time_zone('time_zones', 'events.org_id', 'events.occurred_at') }}

)

select * from placed
