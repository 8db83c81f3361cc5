{#
    The staging folders, so that adding a vendor is adding a folder: nothing else names it.

    dbt draws its graph from the ref() calls that it meets while it parses, when `graph` is still empty; the list of
    files has been read by then. A project that was parsed before the folder came is stale, which is an error here and
    not a vendor silently left out.
#}
{% macro vendors(file_name) %}
    {%- set vendors = [] -%}
    {%- for file in ref.manifest.files.values() if file.path.relative_path -%}
        {%- set parts = file.path.relative_path.replace('\\', '/').split('/') -%}
        {%- if parts[0] == 'staging' and parts[-1] == file_name | format(parts[1]) -%}
            {%- do vendors.append(parts[1]) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(vendors | sort) }}
{% endmacro %}


{# Those of `vendors` of which a load was ever begun, found with one question: dbt would look into each one's schema. #}
{% macro landed_among(vendors) %}
    {%- if not execute or not can_introspect() -%}
        {{ return(vendors) }}
    {%- endif -%}
    {%- set schemas = run_query(
        "select table_schema from information_schema.tables"
        ~ " where table_name = '_dlt_loads' and table_catalog = '" ~ target.database ~ "'"
    ).columns[0].values() -%}
    {%- set landed = [] -%}
    {%- for vendor in vendors -%}
        {%- if graph.sources['source.' ~ project_name ~ '.' ~ vendor ~ '._dlt_loads'].schema in schemas -%}
            {%- do landed.append(vendor) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ return(landed) }}
{% endmacro %}


{# Those that have such a file and of which something has landed; the first of all, if nothing has. #}
{% macro landed_vendors(file_name) %}
    {%- set every = vendors(file_name) -%}
    {{ return(landed_among(every) or every[:1]) }}
{% endmacro %}


{#
    Every vendor's events by key and batch, for a test. It refers to no vendor's staging: with that a test is left out,
    and a build leaves out the staging of vendors that brought nothing.
#}
{% macro staged_events() %}
    select
        cast(null as varchar(1024)) as event_id,
        cast(null as timestamp) as occurred_at,
        cast(null as bigint) as batch_id
    where 1 = 0
    {%- for vendor in landed_among(vendors('stg_%s__events.sql')) if execute %}
    union all
    select
        event_id,
        occurred_at,
        batch_id
    from {{ graph.nodes['model.' ~ project_name ~ '.stg_' ~ vendor ~ '__events'].relation_name }}
    {%- endfor %}
{% endmacro %}


{# All vendors' staging models of one shape: the columns to which the calling model's yml gives a type. #}
{% macro union_vendors(shape) %}
    {%- set columns = typed_columns(model) %}
    select
        {%- for name, type in columns.items() %}
        cast(null as {{ type }}) as {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    where 1 = 0
    {%- set every = vendors('stg_%s__' ~ shape ~ '.sql') %}
    {%- set landed = landed_among(every) %}
    {%- for vendor in every %}
    {%- set staged = 'stg_' ~ vendor ~ '__' ~ shape %}
    {%- if execute and 'model.' ~ project_name ~ '.' ~ staged not in model.depends_on.nodes %}
    {%- do exceptions.raise_compiler_error(staged ~ ' came after this project was parsed: dbt parse --no-partial-parse') %}
    {%- elif vendor in landed %}
    union all
    select
        {%- for name in columns %}
        {{ name }}{{ ',' if not loop.last }}
        {%- endfor %}
    from {{ ref(staged) }}
    {%- endif %}
    {%- endfor %}
{% endmacro %}


{#
    Whether an account is in its own app's listing, and not in an identity provider's of who may use what: there every
    record names its app, and lands with an `app_name`.
#}
{% macro is_own_listing(accounts) -%}
    {%- set assignments = [] -%}
    {%- if execute -%}
        {%- for source in graph.sources.values() if 'app_name' in source.columns and 'record_id' in source.columns -%}
            {%- do assignments.append(source.source_name ~ '.' ~ source.name) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ accounts }}.connector || '.' || {{ accounts }}.stream not in ('{{ assignments | sort | join("', '") }}')
{%- endmacro %}


{% macro typed_columns(node) %}
    {%- set columns = {} -%}
    {%- if execute -%}
        {%- for column in node.columns.values() if column.data_type -%}
            {%- do columns.update({column.name: column.data_type}) -%}
        {%- endfor -%}
    {%- endif -%}
    {{ return(columns) }}
{% endmacro %}
