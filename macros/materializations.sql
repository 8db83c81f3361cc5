{#
    The materializations of vendors' staging models. A vendor that no connection was ever read from has nothing to stage:
    its models make no relation and cost a build next to nothing, however many vendors the project knows, and
    union_vendors() leaves them out.
#}

{% materialization landed_view, default %}
    {%- if is_landed(connector_of(model)) -%}
        {{ return(adapter.dispatch('stage_as_view')()) }}
    {%- endif -%}
    {% call noop_statement('main', 'SKIP') %}{% endcall %}
    {{ return({'relations': []}) }}
{% endmaterialization %}

{% macro default__stage_as_view() %}
    {{ return(dbt.materialization_view_default()) }}
{% endmacro %}

{% macro redshift__stage_as_view() %}
    {{ return(dbt.materialization_view_redshift()) }}
{% endmacro %}


{% materialization landed_incremental, default %}
    {%- if is_landed(connector_of(model)) -%}
        {{ return(adapter.dispatch('stage_incrementally')()) }}
    {%- endif -%}
    {% call noop_statement('main', 'SKIP') %}{% endcall %}
    {{ return({'relations': []}) }}
{% endmaterialization %}

{% macro default__stage_incrementally() %}
    {{ return(dbt.materialization_incremental_default()) }}
{% endmacro %}

{% macro duckdb__stage_incrementally() %}
    {{ return(dbt.materialization_incremental_duckdb()) }}
{% endmacro %}


{% macro connector_of(node) %}
    {%- for id in node.depends_on.nodes if id.startswith('source.') -%}
        {{ return(id.split('.')[2]) }}
    {%- endfor -%}
{% endmacro %}


{# Whether a load of the connector was ever begun. #}
{% macro is_landed(connector) %}
    {%- if not execute or not can_introspect() -%}
        {{ return(true) }}
    {%- endif -%}
    {%- set loads = graph.sources['source.' ~ project_name ~ '.' ~ connector ~ '._dlt_loads'] -%}
    {{ return(adapter.get_relation(loads.database, loads.schema, loads.identifier) is not none) }}
{% endmacro %}


{#
    On DuckDB, whose DDL is transactional and which has one writer: the relation is replaced where it stands, in one
    statement. dbt builds beside it, renames twice and drops what was, which takes a small model three times as long.
#}
{% materialization table, adapter='duckdb' %}
    {{ return(replaced('table')) }}
{% endmaterialization %}

{% materialization view, adapter='duckdb' %}
    {{ return(replaced('view')) }}
{% endmaterialization %}

{% macro duckdb__stage_as_view() %}
    {{ return(replaced('view')) }}
{% endmacro %}

{% macro replaced(kind) %}
    {%- set target = this.incorporate(type=kind) -%}
    {%- set existing = load_cached_relation(this) -%}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {% call statement('main') -%}
        {%- if existing is not none %}drop {{ existing.type }} {{ existing }};{% endif %}
        {{ create_table_as(False, target, compiled_code) if kind == 'table' else create_view_as(target, compiled_code) }}
    {%- endcall %}
    {% do persist_docs(target, model) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
    {{ return({'relations': [target]}) }}
{% endmacro %}
