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
        -- the end is, as the first day is, what the contract says by now, of days that are over too
        last_value(ends_on) over (
            partition by org_id, app_id, license_name, starts_on order by dbt_valid_from, dbt_valid_to nulls last
            rows between unbounded preceding and unbounded following
        ) as last_ends_on,
        lead(dbt_valid_from) over (
            partition by org_id, app_id, license_name, starts_on order by dbt_valid_from, dbt_valid_to nulls last
        ) as next_valid_from
    from contract_versions

),

-- what came for what went, alike in all but the licence: that one was given another name
renames as (

    select
        gone.org_id,
        gone.app_id,
        gone.license_name,
        gone.starts_on,
        max(told.license_key) as new_key
    from numbered as gone
    inner join numbered as told
        on
            gone.org_id = told.org_id
            and gone.app_id = told.app_id
            and gone.license_key <> told.license_key
            and gone.starts_on = told.starts_on
            and {{ is_same('gone.ends_on', 'told.ends_on') }}
            and {{ is_same('gone.purchased', 'told.purchased') }}
            and {{ is_same('gone.annual_price', 'told.annual_price') }}
            and gone.dbt_valid_to = told.dbt_valid_from
    where told.version = 1 and coalesce(gone.next_valid_from > gone.dbt_valid_to, true)
    group by 1, 2, 3, 4

),

licensed as (

    select
        numbered.*,
        coalesce(renames.new_key, numbered.license_key) as last_license_key
    from numbered
    left join renames
        on
            numbered.org_id = renames.org_id
            and numbered.app_id = renames.app_id
            and numbered.license_name = renames.license_name
            and numbered.starts_on = renames.starts_on

),

-- what came as another contract of the licence went, for days of the same, is that one under another name or first day
corrections as (

    select distinct
        told.org_id,
        told.app_id,
        told.license_name,
        told.starts_on
    from licensed as told
    inner join licensed as gone
        on
            told.org_id = gone.org_id
            and told.app_id = gone.app_id
            and told.last_license_key = gone.last_license_key
            and told.dbt_valid_from = gone.dbt_valid_to
            and (told.license_name <> gone.license_name or told.starts_on <> gone.starts_on)
            and (told.starts_on <= gone.ends_on or gone.ends_on is null)
            and (told.ends_on >= gone.starts_on or told.ends_on is null)
    where told.version = 1 and coalesce(gone.next_valid_from > gone.dbt_valid_to, true)

),

-- a contract counts from its first day to its last, however late they were told; what else changed, from the change on
dated as (

    select
        licensed.*,
        case
            when licensed.version > 1 or corrections.org_id is not null
                then {{ local_date('licensed.dbt_valid_from', 'first_zones.time_zone') }}
        end as known_from,
        {{ local_date('licensed.dbt_valid_to', 'last_zones.time_zone') }} - 1 as known_to
    from licensed
    {{ join_time_zone('first_zones', 'licensed.org_id', 'licensed.dbt_valid_from') }}
    {{ join_time_zone('last_zones', 'licensed.org_id', 'licensed.dbt_valid_to') }}
    left join corrections
        on
            licensed.org_id = corrections.org_id
            and licensed.app_id = corrections.app_id
            and licensed.license_name = corrections.license_name
            and licensed.starts_on = corrections.starts_on

),

final as (

    select
        dated.org_id,
        dated.app_id,
        dated.license_name,
        dated.last_license_key as license_key,
        dated.starts_on,
        dated.version,
        dated.last_ends_on as ends_on,
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
