-- Who is active stayed, came or came back; who was active in the block before stayed or went, for one reason.
with

blocks as (

    select
        retention.*,
        lag(active) over (partition by org_id, app_id order by block_start_date) as previous_active
    from {{ ref('app_retention') }} as retention

)

select *
from blocks
where
    active <> retained + "new" + resurrected  -- noqa: RF06
    or previous_active <> retained + churned
    or churned <> churned_left_company + churned_lost_access + churned_stopped_using
    or retention_rate not between 0 and 1
    or (active is null and coalesce(retained, "new", resurrected, churned) is not null)  -- noqa: RF06
