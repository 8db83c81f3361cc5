-- These orgs are counted in UTC days.
{{ config(severity='warn') }}

select
    org_id,
    given_time_zone
from {{ ref('int_orgs') }}
where not has_known_time_zone
