-- These orgs are counted in UTC days, or in those of the last time zone that they had.
{{ config(severity='warn') }}

select
    org_id,
    given_time_zone
from {{ ref('int_given_time_zones') }}
where not has_known_time_zone
