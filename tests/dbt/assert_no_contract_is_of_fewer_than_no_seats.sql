-- These contracts are left out: nobody buys fewer than no seats.
{{ config(severity='warn') }}

select
    org_id,
    app_id,
    license_name,
    starts_on,
    purchased
from {{ ref('stg_product__app_contracts') }}
where purchased < 0
