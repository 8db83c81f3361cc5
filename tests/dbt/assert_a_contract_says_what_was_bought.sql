-- These contracts name no app or licence, and are left out; or no number of seats, and none of theirs is unassigned.
{{ config(severity='warn') }}

select
    org_id,
    app_id,
    license_name,
    starts_on,
    purchased
from {{ ref('stg_product__app_contracts') }}
where org_id is null or app_id is null or license_name is null or starts_on is null or purchased is null
