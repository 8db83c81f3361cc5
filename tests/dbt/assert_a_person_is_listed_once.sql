-- These people are listed twice; the first by e-mail counts.
{{ config(severity='warn') }}

select
    org_id,
    person_id,
    count(*) as row_count
from {{ ref('stg_product__employees') }}
group by 1, 2
having count(*) > 1 or org_id is null or person_id is null
