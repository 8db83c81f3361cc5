{# Checked on DuckDB 2.0 (with icu) and PostgreSQL 15; Redshift by its documentation. Instants are UTC timestamps. #}

{# The date that a clock in the time zone shows at an instant. #}
{% macro local_date(instant, time_zone) %}
    {{- return(adapter.dispatch('local_date')(instant, time_zone)) -}}
{% endmacro %}

{% macro default__local_date(instant, time_zone) -%}
    cast(timezone({{ time_zone }}, timezone('UTC', {{ instant }})) as date)
{%- endmacro %}

{# The same in half the time: to read a timestamp as UTC, DuckDB's timezone() asks a calendar, too. #}
{% macro duckdb__local_date(instant, time_zone) -%}
    cast(timezone({{ time_zone }}, make_timestamptz(epoch_us({{ instant }}))) as date)
{%- endmacro %}

{% macro redshift__local_date(instant, time_zone) -%}
    cast(convert_timezone('UTC', {{ time_zone }}, {{ instant }}) as date)
{%- endmacro %}


{# Joins the time zone, of the CTE time_zones, that was the customer's at an instant. #}
{% macro join_time_zone(zone, org_id, instant) -%}
    left join time_zones as {{ zone }}
        on
            {{ org_id }} = {{ zone }}.org_id
            and {{ instant }} >= {{ zone }}.valid_from
            and {{ instant }} < {{ zone }}.valid_to
{%- endmacro %}


{# The instant at which a date begins in the time zone. #}
{% macro day_starts_at(date, time_zone) %}
    {{- return(adapter.dispatch('day_starts_at')(date, time_zone)) -}}
{% endmacro %}

{% macro default__day_starts_at(date, time_zone) -%}
    timezone('UTC', timezone({{ time_zone }}, cast({{ date }} as timestamp)))
{%- endmacro %}

{% macro redshift__day_starts_at(date, time_zone) -%}
    convert_timezone({{ time_zone }}, 'UTC', cast({{ date }} as timestamp))
{%- endmacro %}


{# The whole days from `start` to `end`. #}
{% macro days_between(start, end) %}
    {{- return(adapter.dispatch('days_between')(start, end)) -}}
{% endmacro %}

{% macro default__days_between(start, end) -%}
    ({{ end }} - {{ start }})
{%- endmacro %}

{% macro redshift__days_between(start, end) -%}
    datediff(day, {{ start }}, {{ end }})
{%- endmacro %}


{#
    The instant that the build counts back from: see the var in dbt_project.yml. The environment variable says the same
    without a new parse of the project, which a change of vars costs.
#}
{% macro now(fetches=none) -%}
    {%- set given = var('now') or env_var('APP_USAGE_NOW', '') -%}
    {%- if given -%}
        {%- set instant = modules.datetime.datetime.fromisoformat(given.replace('Z', '+00:00')) -%}
        {%- set instant = instant.astimezone(modules.pytz.utc) if instant.tzinfo else instant -%}
        cast('{{ instant.strftime("%Y-%m-%d %H:%M:%S.%f") }}' as timestamp)
    {%- else -%}
        (select max(fetches.fetched_at) from {{ fetches or ref('int_fetches') }} as fetches)
    {%- endif -%}
{%- endmacro %}


{#
    Snapshots tell the time by the same clock, so that what they record depends on nothing but the warehouse. dbt asks
    for it while a snapshot runs, when it is too late for a ref(): what a snapshot is taken of depends on int_fetches.
#}
{% macro default__snapshot_get_time() -%}
    cast({{ now(graph.nodes['model.' ~ project_name ~ '.int_fetches'].relation_name) }} as timestamp)
{%- endmacro %}


{#
    The last date up to `date` that is any number of `months` after `start`, or `later` times these after it; null where
    `months` is.
#}
{% macro billed_on(start, months, date, later=0) -%}
    {%- set periods -%}
        cast(floor({{ dbt.datediff(start, date, 'month') }} / cast({{ months }} as double precision)) as integer)
    {%- endset -%}
    {%- set nearest = dbt.dateadd('month', periods ~ ' * ' ~ months, start) -%}
    cast(
        case
            when {{ nearest }} > {{ date }}
                then {{ dbt.dateadd('month', '(' ~ periods ~ ' - ' ~ (1 - later) ~ ') * ' ~ months, start) }}
            else {{ dbt.dateadd('month', '(' ~ periods ~ ' + ' ~ later ~ ') * ' ~ months, start) }}
        end as date
    )
{%- endmacro %}


{# `instant` less a number of seconds. #}
{% macro seconds_before(seconds, instant) %}
    {{- return(adapter.dispatch('seconds_before')(seconds, instant)) -}}
{% endmacro %}

{% macro default__seconds_before(seconds, instant) -%}
    ({{ instant }} - {{ seconds }} * interval '1 second')
{%- endmacro %}

{% macro redshift__seconds_before(seconds, instant) -%}
    dateadd(second, cast(-({{ seconds }}) as integer), {{ instant }})
{%- endmacro %}
