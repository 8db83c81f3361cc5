{% macro exists(relation) %}
    {%- if not execute or not can_introspect() -%}
        {{ return(true) }}
    {%- endif -%}
    {{ return(adapter.get_relation(relation.database, relation.schema, relation.identifier) is not none) }}
{% endmacro %}


{# Not in `dbt compile --no-introspect`, which needs no warehouse, nor in unit tests, whose inputs are not in it. #}
{% macro can_introspect() %}
    {{ return(flags.INTROSPECT is not sameas false and model.resource_type != 'unit_test') }}
{% endmacro %}


{# As dbt's own, for our kinds of incremental model too; without a warehouse, a var says which branch to compile. #}
{% macro is_incremental() %}
    {%- if not execute or model.config.materialized not in ['incremental', 'landed_incremental'] -%}
        {{ return(false) }}
    {%- elif not can_introspect() -%}
        {{ return(var('compile_incremental')) }}
    {%- endif -%}
    {%- set relation = load_relation(this) -%}
    {{ return(relation is not none and relation.type == 'table' and not should_full_refresh()) }}
{% endmacro %}


{#
    As dbt's own; and where days were counted by other definitions, or most of what they are counted with is another, all
    are counted as in a first build: to replace each of them takes several times as long, and more memory.
#}
{% macro should_full_refresh() %}
    {%- set asked_for = config.get('full_refresh') -%}
    {{ return((flags.FULL_REFRESH if asked_for is none else asked_for) or is_counted_otherwise()) }}
{% endmacro %}

{% macro is_counted_otherwise() %}
    {%- set counts_days = config.get('incremental_strategy') == 'replace_days' -%}
    {%- if not (execute and can_introspect() and counts_days and exists(this)) -%}
        {{ return(false) }}
    {%- endif -%}
    {%- set inputs = config.get('meta', {}).get('inputs') -%}
    {%- set told_by = ['definition_version'] + (['counted_as'] if inputs else []) -%}
    {%- set columns = adapter.get_columns_in_relation(this) | map(attribute='name') -%}
    {%- if told_by | reject('in', columns | list) | list -%}
        {{ return(true) }}
    {%- endif -%}
    {%- set counted = "select 1 from " ~ this ~ " where definition_version = '" ~ definition_of_usage() ~ "' limit 1" -%}
    {{ return(run_query(counted).rows | length == 0 or (inputs and has_other_inputs(inputs))) }}
{% endmacro %}

{# Whether most apps are to be counted anew, for their fingerprint is not the one that they were counted with. #}
{% macro has_other_inputs(inputs) %}
    {%- set counted -%}
        select sum(case when known.counted_as = apps.counted_as then 0 else 1 end) * 2 > count(*)
        from {{ ref(inputs) }} as apps
        left join (
            select
                org_id,
                app_id,
                max(counted_as) as counted_as
            from {{ this }}
            where usage_date > (select max(newest.usage_date) - 60 from {{ this }} as newest)
            group by 1, 2
        ) as known
            on apps.org_id = known.org_id and apps.app_id = known.app_id
        where apps.first_seen_on <= apps.expected_as_of_date  {#- others have no day yet that is over #}
    {%- endset -%}
    {{ return(run_query(counted).columns[0].values()[0] is true) }}
{% endmacro %}


{# `dbt source freshness`: a connector that was never configured cannot be late. #}
{% macro default__collect_freshness(source, loaded_at_field, filter) %}
    {%- if adapter.get_relation(source.database, source.schema, source.identifier) is not none -%}
        {{ return(dbt.default__collect_freshness(source, loaded_at_field, filter)) }}
    {%- endif -%}
    {%- call statement('collect_freshness', fetch_result=True, auto_begin=False) -%}
        select
            {{ current_timestamp() }} as max_loaded_at,
            {{ current_timestamp() }} as snapshotted_at
    {%- endcall -%}
    {{ return(load_result('collect_freshness')) }}
{% endmacro %}


{# Notes which of dbt's invocations was the last to write, whoever started it. #}
{% macro sign_build() %}
    {%- if execute and flags.WHICH in ['build', 'run', 'seed', 'snapshot', 'clone', 'retry'] -%}
        {%- set schema = target.schema ~ '_intermediate' %}
        create schema if not exists {{ schema }};
        create table if not exists {{ schema }}.last_build (invocation_id varchar(64));
        delete from {{ schema }}.last_build;
        insert into {{ schema }}.last_build values ('{{ invocation_id }}')
    {%- endif -%}
{% endmacro %}
