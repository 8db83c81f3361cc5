-- No event of before has the key of one that has come since all was tested: none of a year and more around what came,
-- for vendors keep no more that they could give again; with all tests, none at all (is_key). Staging is asked, and not
-- int_events, of which the whole history would have to be joined first; twice, for what has one name becomes one table.
-- depends_on: {{ ref('int_events') }}
{%- set untested = within_untested_batches() %}
select
    staged.event_id,
    count(*) as copies
from (
    {{ staged_events() }}
) as staged
where
    {{ near_untested_days(400, 'staged.occurred_at') }}
    and staged.event_id in (
        select fresh.event_id
        from (
            {{ staged_events() }}
        ) as fresh
        where {{ '1 = 0' if untested == '1 = 1' else untested }}
    )
group by 1
having count(*) > 1
