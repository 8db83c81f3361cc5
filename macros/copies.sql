{#
    The latest copy of every event. The same event lands again when a window is read twice or a killed load is
    resumed, and changed when the vendor corrects it. `earliest_occurred_at` and `latest_occurred_at` keep the times
    that earlier copies gave: the days from which a correction took the event must be counted anew.

    Events dated after their arrival or before SaaS existed were rejected on extraction; a hand-loaded one is here.
#}
{% macro latest_copies(copies) %}
    select
        event_id,
        event_id_kind,
        org_id,
        connection_id,
        connector,
        stream,
        occurred_at,
        occurred_on,
        logged_at,
        loaded_at,
        account_id,
        user_email,
        user_name,
        actor_kind,
        app_name,
        source_kind,
        activity_class,
        activity,
        event_code,
        status,
        event_count,
        window_started_at,
        window_ended_at,
        ip_address,
        user_agent,
        load_id,
        batch_id,
        earliest_occurred_at,
        latest_occurred_at
    from (
        select
            copies.*,
            coalesce(exact_type.activity_class, any_type.activity_class, 'Base Event') as activity_class,
            coalesce(exact_type.activity, any_type.activity, 'Unknown') as activity,
            min(copies.occurred_at) over (partition by copies.event_id) as earliest_occurred_at,
            max(copies.occurred_at) over (partition by copies.event_id) as latest_occurred_at,
            row_number() over (
                partition by copies.event_id
                order by
                    copies.loaded_at desc,
                    copies.load_id desc,
                    copies.occurred_at desc,
                    copies.event_code desc nulls last,
                    copies.user_email desc nulls last
            ) as copy_rank
        from {{ copies }} as copies
        left join {{ ref('activity_types') }} as exact_type
            on
                copies.connector = exact_type.connector
                and copies.stream = exact_type.stream
                and copies.event_code = exact_type.event_code
        left join {{ ref('activity_types') }} as any_type
            on
                copies.connector = any_type.connector
                and copies.stream = any_type.stream
                and any_type.event_code = '*'
        where
            copies.occurred_at >= cast('2000-01-01' as timestamp)
            and copies.occurred_at <= {{ dbt.dateadd('hour', 1, 'copies.loaded_at') }}
    ) as ranked
    where copy_rank = 1
    order by occurred_at
{% endmacro %}


{#
    The state of every record of a listing. Landing holds a row per change and a tombstone when a complete listing no
    longer had the record; a tombstone may carry nothing but its key, so the last known values are given beside it.
#}
{% macro latest_records(connector, table) %}
    (
        select
            versions.*,
            coalesce(versions.gone_at >= versions.fetched_at, false) as has_gone
        from (
            select
                landed.*,
                max(case when landed.is_gone then landed.fetched_at end)
                    over (partition by landed.connection_id, landed.record_id) as gone_at,
                row_number() over (
                    partition by landed.connection_id, landed.record_id
                    order by
                        case when landed.is_gone then 1 else 0 end,
                        landed.fetched_at desc,
                        landed._dlt_load_id desc
                ) as version_rank
            from {{ landing(connector, table) }} as landed
        ) as versions
        where versions.version_rank = 1
    )
{% endmacro %}


{# Dates that vendors give for "never". #}
{% macro not_a_sentinel(column, loaded_at='fetched_at') %}
    case
        when
            cast({{ column }} as date) in (
                cast('0001-01-01' as date),
                cast('1601-01-01' as date),
                cast('1970-01-01' as date),
                cast('2020-07-30' as date),  -- Buildkite's
                cast('9999-12-31' as date)
            )
            then null
        when {{ column }} > {{ dbt.dateadd('day', 1, loaded_at) }} then null
        else {{ column }}
    end
{%- endmacro %}
