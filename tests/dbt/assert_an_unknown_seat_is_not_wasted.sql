-- Where it is not known whether a seat was used, nothing says that it was not.
select *
from {{ ref('license_seats') }}
where not usage_known and (seat_state in ('active', 'grace', 'never_used', 'idle') or last_used_date is not null)
