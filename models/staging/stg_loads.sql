-- numbers given once are never given anew: what has been read is told by them
{{ config(materialized='incremental', incremental_strategy='append', full_refresh=false) }}

with

completed as (
    {% for connector in landed_vendors('_%s__sources.yml') %}
    select
        cast('{{ connector }}' as varchar(64)) as connector,
        cast(load_id as varchar(64)) as load_id,
        min(cast(inserted_at as timestamp)) as completed_at
    from {{ landed(connector, '_dlt_loads') }} as loads
    where status = 0
    group by 1, 2
    {%- if not loop.last %}
    union all
    {%- endif %}
    {% endfor %}
),

numbered as (

    select
        completed.connector,
        completed.load_id,
        completed.completed_at,
        {% if is_incremental() -%}
        (select coalesce(max(known.batch_id), 0) + 1 from {{ this }} as known) as batch_id
        {%- else -%}
        cast(1 as bigint) as batch_id
        {%- endif %}
    from completed
    {% if is_incremental() -%}
    left join {{ this }} as seen
        on completed.connector = seen.connector and completed.load_id = seen.load_id
    where seen.load_id is null
    {%- endif %}

)

select * from numbered
