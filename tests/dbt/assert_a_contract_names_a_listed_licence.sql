-- No listing has ever named the licence of these contracts, and names others that no contract has: they may be the
-- same, and the contract's seats are unknown. Write its license_name as the vendor does.
{{ config(severity='warn') }}

select
    contracts.org_id,
    contracts.app_id,
    contracts.license_name,
    unbought.license_name as listed_name
from {{ ref('fct_license_days') }} as contracts
inner join {{ ref('fct_license_days') }} as unbought
    on
        contracts.org_id = unbought.org_id
        and contracts.app_id = unbought.app_id
        and contracts.license_date = unbought.license_date
where
    contracts.license_date = contracts.as_of_date
    and contracts.contract_count > 0
    and contracts.assigned is null
    and unbought.contract_count is null
    and unbought.assigned > 0
