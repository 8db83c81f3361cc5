{#
    The latest copy of every event. The same event lands again when a window is read twice or a killed load is
    resumed, and changed when the vendor corrects it. `earliest_occurred_at` and `latest_occurred_at` keep the times
    that earlier copies gave: the days from which a correction took the event must be counted anew.

    Events dated after their arrival or before SaaS existed were rejected on extraction; a hand-loaded one is here.
#}
{% macro latest_copies(copies) %}
    with

    repeated as (

        select event_id
        from {{ copies }}
        group by 1
        having count(*) > 1

    )

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
        -- to rank is to sort, and of an event that came once there is nothing to rank
        select
            copies.*,
            copies.occurred_at as earliest_occurred_at,
            copies.occurred_at as latest_occurred_at,
            1 as copy_rank
        from {{ copies }} as copies
        left join repeated
            on copies.event_id = repeated.event_id
        where repeated.event_id is null and {{ is_dated_soundly('copies') }}
        union all
        select
            copies.*,
            min(copies.occurred_at) over (partition by copies.event_id) as earliest_occurred_at,
            max(copies.occurred_at) over (partition by copies.event_id) as latest_occurred_at,
            row_number() over (
                partition by copies.event_id
                order by
                    copies.loaded_at desc,
                    copies.load_id desc,
                    copies.occurred_at desc,
                    -- of copies that came at once any, but always the same
                    copies.event_code desc nulls last,
                    copies.status desc,
                    copies.user_email desc nulls last,
                    copies.account_id desc nulls last
            ) as copy_rank
        from {{ copies }} as copies
        inner join repeated
            on copies.event_id = repeated.event_id
        where {{ is_dated_soundly('copies') }}
    ) as ranked
    where copy_rank = 1
    order by occurred_at
{% endmacro %}

{% macro is_dated_soundly(copies) -%}
    {{ copies }}.occurred_at >= cast('2000-01-01' as timestamp)
    and {{ copies }}.occurred_at <= {{ dbt.dateadd('hour', 1, copies ~ '.loaded_at') }}
{%- endmacro %}


{#
    The states of every record of a listing: what it was, from when to when. Landing holds a row per change and a
    tombstone when a complete listing no longer had the record; a tombstone may carry nothing but its key, so a record
    that is gone keeps the values that were last known. What the first complete listing shows, or one that broke off
    before it, was there before: only a listing that knew of everybody tells who is new to the next one.
#}
{% macro record_states(connector, table) %}
    (
        select
            spans.*,
            case
                when
                    not spans.has_gone
                    and spans.fetched_at = spans.first_shown_at
                    and (spans.first_shown_at <= spans.all_listed_at or spans.all_listed_at is null)
                    then cast('2000-01-01' as timestamp)
                else spans.began_at
            end as valid_from,
            spans.ended_at as valid_to
        from (
            select
                changes.*,
                phases.has_gone,
                case when phases.has_gone then changes.next_at else changes.fetched_at end as began_at,
                case when phases.has_gone then changes.returned_at else changes.next_at end as ended_at
            from (
                select
                    landed.*,
                    min(landed.fetched_at) over (
                        partition by landed.connection_id, landed.record_id
                    ) as first_shown_at,
                    min(case when landed.is_complete_listing then landed.fetched_at end) over (
                        partition by landed.connection_id
                    ) as all_listed_at,
                    lead(landed.fetched_at) over ({{ one_after_the_other() }}) as next_at,
                    lead(coalesce(landed.is_gone, false)) over ({{ one_after_the_other() }}) as goes_next,
                    min(case when not coalesce(landed.is_gone, false) then landed.fetched_at end) over (
                        {{ one_after_the_other() }} rows between 1 following and unbounded following
                    ) as returned_at
                from {{ landing(connector, table) }} as landed
            ) as changes
            cross join (select false as has_gone union all select true as has_gone) as phases
            where not coalesce(changes.is_gone, false) and (changes.goes_next or not phases.has_gone)
        ) as spans
        where spans.began_at < spans.ended_at or spans.ended_at is null
    )
{% endmacro %}

{# Of changes that were fetched at one instant the last counts, and none outlives a tombstone. #}
{% macro one_after_the_other() -%}
    partition by landed.connection_id, landed.record_id
    order by landed.fetched_at, case when landed.is_gone then 1 else 0 end, landed._dlt_load_id
{%- endmacro %}


{#
    The states of accounts where licences are listed apart: the account itself, and once more for each licence while it
    holds that. `licenses` has the columns record_id, license_name, license_assigned_at, valid_from and valid_to.
#}
{% macro with_licenses(accounts, licenses, condition) %}
    select
        accounts.*,
        accounts.record_id as listed_id,
        cast(null as varchar(256)) as license_name,
        cast(null as timestamp) as license_assigned_at,
        accounts.valid_from as held_from,
        accounts.valid_to as held_to
    from {{ accounts }} as accounts
    union all
    select
        accounts.*,
        accounts.record_id || '/' || licenses.record_id as listed_id,
        licenses.license_name,
        licenses.license_assigned_at,
        greatest(accounts.valid_from, licenses.valid_from) as held_from,
        least(accounts.valid_to, licenses.valid_to) as held_to
    from {{ accounts }} as accounts
    inner join {{ licenses }} as licenses
        on
            accounts.connection_id = licenses.connection_id
            and {{ condition }}
            and (accounts.valid_from < licenses.valid_to or licenses.valid_to is null)
            and (licenses.valid_from < accounts.valid_to or accounts.valid_to is null)
{% endmacro %}


{# Dates that are given for "never". #}
{% macro never() -%}
    cast('0001-01-01' as date), cast('1601-01-01' as date), cast('1970-01-01' as date), cast('9999-12-31' as date)
{%- endmacro %}


{# What a vendor says to have happened, if it did: not never, and not after it said so. #}
{% macro not_a_sentinel(column, loaded_at='fetched_at') %}
    case
        when cast({{ column }} as date) in ({{ never() }}) then null
        when cast({{ column }} as date) = cast('2020-07-30' as date) then null  -- Buildkite's
        when {{ column }} > {{ dbt.dateadd('day', 1, loaded_at) }} then null
        else {{ column }}
    end
{%- endmacro %}


{# A day that the product gives, be it one to come. #}
{% macro not_never(column) -%}
    case when {{ column }} not in ({{ never() }}) then {{ column }} end
{%- endmacro %}
