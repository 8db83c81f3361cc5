-- No event of before, however old, has the key of one that has come since all was tested. Staging is asked, and not
-- int_events, of which the whole history would have to be joined first; twice, for what has one name is made one table.
-- depends_on: {{ ref('int_events') }}
{%- set untested = within_untested_batches() %}
{%- set staged %}
    select
        cast(null as varchar(1024)) as event_id,
        cast(null as bigint) as batch_id
    where 1 = 0
    {%- for table in staged_events() %}
    union all
    select
        event_id,
        batch_id
    from {{ table }}
    {%- endfor %}
{%- endset %}

select
    event_id,
    count(*) as copies
from ({{ staged }}) as staged
where event_id in (
    select event_id
    from ({{ staged }}) as fresh
    where {{ '1 = 0' if untested == '1 = 1' else untested }}
)
group by 1
having count(*) > 1
