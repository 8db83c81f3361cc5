{{ config(materialized='view') }}

with

contract_versions as (

    select * from {{ ref('contracts_snapshot') }}

),

orgs as (

    select * from {{ ref('int_orgs') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

exchange_rates as (

    select * from {{ ref('stg_product__exchange_rates') }}

),

numbered as (

    select
        contract_versions.*,
        row_number() over (
            partition by org_id, app_id, license_name, starts_on order by dbt_valid_from, dbt_valid_to nulls last
        ) as version
    from contract_versions

),

-- a contract counts from its first day on, however late it was told; what was changed, from the day of the change
dated as (

    select
        numbered.*,
        case
            when numbered.version > 1 then {{ local_date('numbered.dbt_valid_from', 'first_zones.time_zone') }}
        end as known_from,
        {{ local_date('numbered.dbt_valid_to', 'last_zones.time_zone') }} - 1 as known_to
    from numbered
    {{ join_time_zone('first_zones', 'numbered.org_id', 'numbered.dbt_valid_from') }}
    {{ join_time_zone('last_zones', 'numbered.org_id', 'numbered.dbt_valid_to') }}

),

final as (

    select
        dated.org_id,
        dated.app_id,
        dated.license_name,
        dated.license_key,
        dated.starts_on,
        dated.version,
        dated.ends_on,
        dated.known_from,
        dated.known_to,
        dated.purchased,
        dated.minimum_purchased,
        dated.billing_period,
        coalesce(orgs.currency, dated.currency) as currency,
        -- by the rate of the contract's first day, which no later one changes
        cast(
            case
                when coalesce(orgs.currency = dated.currency, orgs.currency is null) then dated.annual_price
                else
                    cast(
                        cast(dated.annual_price as double precision) * own_rates.rate / contract_rates.rate
                        as numeric(18, 4)
                    )
            end as numeric(18, 4)
        ) as annual_price
    from dated
    left join orgs
        on dated.org_id = orgs.org_id
    left join exchange_rates as own_rates
        on
            orgs.currency = own_rates.currency
            and dated.starts_on >= own_rates.starts_on
            and (dated.starts_on <= own_rates.ends_on or own_rates.ends_on is null)
    left join exchange_rates as contract_rates
        on
            dated.currency = contract_rates.currency
            and dated.starts_on >= contract_rates.starts_on
            and (dated.starts_on <= contract_rates.ends_on or contract_rates.ends_on is null)

)

select * from final
