-- No event of before, however old, has the key of one that has come since all was tested. Staging is asked, and not
-- int_events, of which the whole history would have to be joined first; twice, for what has one name is made one table.
-- depends_on: {{ ref('int_events') }}
{%- set untested = within_untested_batches() %}
select
    staged.event_id,
    count(*) as copies
from (
    {{ staged_events() }}
) as staged
where
    staged.event_id in (
        select fresh.event_id
        from (
            {{ staged_events() }}
        ) as fresh
        where {{ '1 = 0' if untested == '1 = 1' else untested }}
    )
group by 1
having count(*) > 1
