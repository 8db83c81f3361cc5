-- These contracts of one licence are in force at once: their seats add up, and their price is the mean by seats.
{{ config(severity='warn') }}

select
    earlier.org_id,
    earlier.app_id,
    earlier.license_name,
    earlier.starts_on as earlier_starts_on,
    later.starts_on as later_starts_on
from {{ ref('int_contracts') }} as earlier
inner join {{ ref('int_contracts') }} as later
    on
        earlier.org_id = later.org_id
        and earlier.app_id = later.app_id
        and earlier.license_key = later.license_key
        and (
            earlier.starts_on < later.starts_on
            or (earlier.starts_on = later.starts_on and earlier.license_name < later.license_name)
        )
        and (earlier.ends_on >= later.starts_on or earlier.ends_on is null)
