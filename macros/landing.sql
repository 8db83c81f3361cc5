{#
    A table that a connector loaded. One that was never configured has no such table: then no rows, in the types that
    the sources' yml declares, and everything downstream builds.
#}
{% macro landed(connector, table) %}
    {%- set relation = source(connector, table) -%}
    {%- if exists(relation) -%}
        {{ relation }}
    {%- else -%}
        (
            select
                {%- for name, type in typed_columns(graph.sources['source.' ~ project_name ~ '.' ~ connector ~ '.' ~ table]).items() %}
                cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
                {%- endfor %}
            where 1 = 0
        )
    {%- endif -%}
{% endmacro %}


{#
    Rows of completed loads, with the load's number in this warehouse. In an incremental model only the loads that it
    has not read yet, between literal bounds: engines skip storage by literals and not by joins.
#}
{% macro landing(connector, table) %}
    (
        select
            landed.*,
            loads.batch_id
        from {{ landed(connector, table) }} as landed
        inner join {{ ref('stg_loads') }} as loads
            on landed._dlt_load_id = loads.load_id and loads.connector = '{{ connector }}'
        {%- if model.config.materialized == 'landed_incremental' %}
        where {{ unread_loads(connector) }}
        {%- endif %}
    )
{%- endmacro %}


{# Loads that {{ this }} has not read. A load's number grows in the order in which loads are first seen complete. #}
{% macro unread_loads(connector) %}
    {%- if execute and can_introspect() and exists(ref('stg_loads')) -%}
        {%- set unread = run_query(
            "select min(load_id), max(load_id), min(batch_id) from " ~ ref('stg_loads')
            ~ " where connector = '" ~ connector ~ "' and batch_id > " ~ read_up_to()
        ).rows[0].values() -%}
        {{ return("loads.batch_id >= " ~ (unread[2] or 0) ~ " and " ~ within_loads(unread[0], unread[1])) }}
    {%- endif -%}
    {{ return("loads.batch_id > " ~ read_up_to()) }}
{%- endmacro %}

{% macro read_up_to() -%}
    {%- if is_incremental() -%} (select coalesce(max(batch_id), 0) from {{ this }}) {%- else -%} 0 {%- endif -%}
{%- endmacro %}

{% macro within_loads(first, last) -%}
    landed._dlt_load_id between '{{ first }}' and '{{ last }}'
{%- endmacro %}
