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
        ) as version,
        lead(dbt_valid_from) over (
            partition by org_id, app_id, license_name, starts_on order by dbt_valid_from, dbt_valid_to nulls last
        ) as next_valid_from
    from contract_versions

),

-- what came as another contract of the licence went, for days of the same, is that one under another name or first day
corrections as (

    select distinct
        told.org_id,
        told.app_id,
        told.license_name,
        told.starts_on
    from numbered as told
    inner join numbered as gone
        on
            told.org_id = gone.org_id
            and told.app_id = gone.app_id
            and told.license_key = gone.license_key
            and told.dbt_valid_from = gone.dbt_valid_to
            and (told.license_name <> gone.license_name or told.starts_on <> gone.starts_on)
            and (told.starts_on <= gone.ends_on or gone.ends_on is null)
            and (told.ends_on >= gone.starts_on or told.ends_on is null)
    where told.version = 1 and coalesce(gone.next_valid_from > gone.dbt_valid_to, true)

),

-- a contract counts from its first day on, however late it was told; what was changed, from the day of the change
dated as (

    select
        numbered.*,
        case
            when numbered.version > 1 or corrections.org_id is not null
                then {{ local_date('numbered.dbt_valid_from', 'first_zones.time_zone') }}
        end as known_from,
        {{ local_date('numbered.dbt_valid_to', 'last_zones.time_zone') }} - 1 as known_to
    from numbered
    {{ join_time_zone('first_zones', 'numbered.org_id', 'numbered.dbt_valid_from') }}
    {{ join_time_zone('last_zones', 'numbered.org_id', 'numbered.dbt_valid_to') }}
    left join corrections
        on
            numbered.org_id = corrections.org_id
            and numbered.app_id = corrections.app_id
            and numbered.license_name = corrections.license_name
            and numbered.starts_on = corrections.starts_on

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
