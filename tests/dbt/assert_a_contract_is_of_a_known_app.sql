-- No catalogue knows the app of these contracts: they are counted, and no source can show who uses it.
{{ config(severity='warn') }}

select distinct
    contracts.org_id,
    contracts.app_id
from {{ ref('stg_product__app_contracts') }} as contracts
left join {{ ref('app_catalog') }} as app_catalog
    on contracts.app_id = app_catalog.app_id
left join {{ ref('int_apps') }} as apps
    on contracts.org_id = apps.org_id and contracts.app_id = apps.app_id
where contracts.app_id is not null and app_catalog.app_id is null and apps.app_id is null
