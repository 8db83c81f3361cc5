with

apps as (

    select * from {{ ref('int_apps') }}

),

contracts as (

    select * from {{ ref('int_contract_versions') }}

),

final as (

    select
        contracts.org_id,
        contracts.app_id,
        cast(sum(contracts.purchased * contracts.annual_price) as double precision) / 12 as monthly_cost,
        sum(contracts.purchased) as purchased,
        case when min(contracts.currency) = max(contracts.currency) then min(contracts.currency) end as currency,
        case
            when count(*) > count(contracts.purchased * contracts.annual_price) then 'unpriced'
            when min(contracts.currency) <> max(contracts.currency) then 'mixed_currencies'
        end as cost_status
    from contracts
    inner join apps
        on contracts.org_id = apps.org_id and contracts.app_id = apps.app_id
    where
        contracts.starts_on <= apps.as_of_date
        and coalesce(contracts.ends_on >= apps.as_of_date, true)
        and coalesce(contracts.known_from <= apps.as_of_date, true)
        and coalesce(contracts.known_to >= apps.as_of_date, true)
    group by 1, 2

)

select * from final
