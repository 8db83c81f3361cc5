{{ config(materialized='incremental', incremental_strategy='replace_days', unique_key=['org_id', 'usage_date']) }}

{%- set version = definition_of_usage() %}
{%- set uncounted = uncounted_days() %}

with

person_days as (

    select * from {{ ref('int_person_app_days') }}
    {% if is_incremental() -%}
    where {{ from_first_uncounted_day(reach_days=90) }}
    {%- endif %}

),

{% if is_incremental() -%}
recounted as (

    select
        org_id,
        min(usage_date) as recount_from
    from ({{ uncounted | indent(8) }}) as uncounted_days
    group by 1

),

{% endif -%}
used_days as (

    select
        person_days.org_id,
        person_days.app_id,
        person_days.person_id,
        person_days.person_class,
        person_days.usage_date,
        person_days.event_count,
        lag(person_days.usage_date) over (
            partition by person_days.org_id, person_days.app_id, person_days.person_id
            order by person_days.usage_date
        ) as previous_date,
        lead(person_days.usage_date) over (
            partition by person_days.org_id, person_days.app_id, person_days.person_id
            order by person_days.usage_date
        ) as next_date
    from person_days
    {% if is_incremental() -%}
    inner join recounted
        on person_days.org_id = recounted.org_id
    {%- endif %}

),

-- a person is in a trailing window from the day of a use until so many days after it, or after the next use if that
-- comes before: one step up and one step down for each stretch, and every window is a running sum
steps as (
    select
        org_id,
        app_id,
        person_class,
        usage_date,
        1 as window_days,
        1 as step,
        {%- for period in ['week', 'month'] %}
        case
            when previous_date >= cast({{ dbt.date_trunc(period, 'usage_date') }} as date) then 0
            else 1
        end as {{ period }}_arrival,
        {%- endfor %}
        event_count
    from used_days
    {%- for days in [7, 28, 30, 90] %}
    union all
    select
        org_id,
        app_id,
        person_class,
        usage_date,
        {{ days }} as window_days,
        1 as step,
        null as week_arrival,
        null as month_arrival,
        null as event_count
    from used_days
    where previous_date is null or previous_date + {{ days }} < usage_date
    union all
    select
        org_id,
        app_id,
        person_class,
        usage_date + {{ days }} as usage_date,
        {{ days }} as window_days,
        -1 as step,
        null as week_arrival,
        null as month_arrival,
        null as event_count
    from used_days
    where next_date is null or usage_date + {{ days }} < next_date
    {%- endfor %}
),

counted as (

    select
        steps.org_id,
        steps.app_id,
        steps.person_class,
        steps.usage_date,
        cast(sum(case when window_days = 1 then step else 0 end) as bigint) as user_count,
        {%- for days in [7, 28, 30, 90] %}
        cast(sum(case when window_days = {{ days }} then step else 0 end) as bigint) as step_{{ days }},
        {%- endfor %}
        cast(coalesce(sum(event_count), 0) as bigint) as event_count,
        cast(coalesce(sum(week_arrival), 0) as bigint) as week_arrivals,
        cast(coalesce(sum(month_arrival), 0) as bigint) as month_arrivals
    from steps
    {%- if is_incremental() %}
    inner join recounted
        on steps.org_id = recounted.org_id and steps.usage_date >= recounted.recount_from
    {%- endif %}
    group by 1, 2, 3, 4

),

{% if is_incremental() -%}
-- what is taken back: the days as they were
recounted_days as (

    select *
    from counted
    union all
    -- not kept: by it replace_days knows that the day was counted, if nothing is left on it
    select
        known.org_id,
        null as app_id,
        null as person_class,
        known.usage_date,
        null as user_count,
        {%- for days in [7, 28, 30, 90] %}
        null as step_{{ days }},
        {%- endfor %}
        null as event_count,
        null as week_arrivals,
        null as month_arrivals
    from {{ this }} as known
    inner join recounted
        on known.org_id = recounted.org_id and known.usage_date >= recounted.recount_from

),

{% endif -%}
final as (

    select
        days.*,
        {{ counted_with(version) | indent(8) }}
    from {{ 'recounted_days' if is_incremental() else 'counted' }} as days

)

select * from final
