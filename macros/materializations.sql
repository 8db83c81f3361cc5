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

{#
    On DuckDB in slices of loads: a slice is sorted in memory, where years of events at once are sorted on disk, twice as
    long for each of them. All are one transaction, for what is read is told by the number that all of these loads have.
#}
{% macro duckdb__stage_incrementally() %}
    {%- set target = this.incorporate(type='table') -%}
    {%- set fresh = make_temp_relation(target) -%}
    {%- set slices = slices_of_unread_loads(connector_of(model)) -%}
    {%- set goes_on = is_incremental() -%}
    {% call in_one_transaction(target) %}
        {%- for slice in slices or [none] %}
            {%- set copies = compiled_code -%}
            {%- if slice -%}
                {%- set copies = copies | replace(within_loads(slices[0][0], slices[-1][1]), within_loads(*slice)) -%}
            {%- endif -%}
            {%- if loop.first and not goes_on %}
                {% call statement('main') %}{{ replacement(target, copies) }}{% endcall %}
            {%- else %}
                {% call statement('fresh') %}{{ create_table_as(True, fresh, copies) }}{% endcall %}
                {% call statement('main') -%}
                    {{ get_incremental_latest_copy_sql({
                        'target_relation': target,
                        'temp_relation': fresh,
                        'dest_columns': process_schema_changes('append_new_columns', fresh, this)
                    }) }};
                    drop table {{ fresh }}
                {%- endcall %}
            {%- endif %}
        {%- endfor %}
    {% endcall %}
    {{ return({'relations': [target]}) }}
{% endmacro %}

{# The first and the last load of each slice; a load is not divided. #}
{% macro slices_of_unread_loads(connector) %}
    {%- set landed = [] -%}
    {%- for id in model.depends_on.nodes if id.startswith('source.') -%}
        {%- set table = source(connector, graph.sources[id].name) -%}
        {%- if exists(table) -%}
            {%- do landed.append(
                "select loads.load_id from " ~ table ~ " as landed inner join unread as loads"
                ~ " on landed._dlt_load_id = loads.load_id"
            ) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not landed -%}
        {{ return([]) }}
    {%- endif -%}
    {%- set slices = run_query(
        "with unread as ("
        ~ "select load_id from " ~ ref('stg_loads') ~ " where connector = '" ~ connector ~ "' and batch_id > " ~ read_up_to()
        ~ "), counted as ("
        ~ "select load_id, count(*) as row_count from (" ~ landed | join(' union all ') ~ ") as landed group by 1"
        ~ "), sliced as ("
        ~ "select load_id, floor((sum(row_count) over (order by load_id) - row_count) / " ~ var('events_in_memory') ~ ") as slice"
        ~ " from (select load_id, coalesce(row_count, 0) as row_count from unread left join counted using (load_id)) as loads"
        ~ ") select min(load_id), max(load_id) from sliced group by slice order by slice"
    ) -%}
    {{ return(slices.rows) }}
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
    {% call in_one_transaction(target) %}
        {% call statement('main') %}{{ replacement(target, compiled_code) }}{% endcall %}
    {% endcall %}
    {{ return({'relations': [target]}) }}
{% endmacro %}

{% macro replacement(target, sql) %}
    {%- set existing = load_cached_relation(this) -%}
    {%- if existing is not none %}drop {{ existing.type }} {{ existing }};{% endif %}
    {{ create_view_as(target, sql) if target.type == 'view' else create_table_as(False, target, sql) }}
{% endmacro %}

{% macro in_one_transaction(target) %}
    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}
    {{ caller() }}
    {% do persist_docs(target, model) %}
    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {{ adapter.commit() }}
    {{ run_hooks(post_hooks, inside_transaction=False) }}
{% endmacro %}
