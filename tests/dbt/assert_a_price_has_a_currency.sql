-- These contracts count as unpriced: a number is no price, and none is below 0.
{{ config(severity='warn') }}

select
    org_id,
    app_id,
    license_name,
    starts_on,
    annual_price,
    currency
from {{ ref('stg_product__app_contracts') }}
where annual_price is not null and (coalesce(currency, '') = '' or annual_price < 0)
