-- depends_on: {{ ref('int_fetches') }}, by which the snapshot of this model tells the time
with

app_contracts as (

    select * from {{ ref('stg_product__app_contracts') }}

),

-- what says nothing that could be counted is left out, and named by a test
usable as (

    select
        org_id,
        app_id,
        trim(license_name) as license_name,
        {{ normalized_name('license_name') }} as license_key,
        coalesce(starts_on, cast('2000-01-01' as date)) as starts_on,
        ends_on,
        cast(purchased as bigint) as purchased,
        -- a price is money only in a currency
        cast(case when currency <> '' and annual_price >= 0 then annual_price end as numeric(12, 2)) as annual_price,
        nullif(currency, '') as currency,
        cast(case when minimum_purchased >= 0 then minimum_purchased end as bigint) as minimum_purchased,
        case when billing_period in ('month', 'year') then billing_period end as billing_period,
        row_number() over (
            partition by org_id, app_id, trim(license_name), coalesce(starts_on, cast('2000-01-01' as date))
            order by ends_on desc nulls first, purchased desc nulls last, annual_price desc nulls last
        ) as listing
    from app_contracts
    where
        org_id is not null
        and app_id is not null
        and license_name is not null
        and coalesce(purchased, 0) >= 0

),

contracts as (

    select
        org_id,
        app_id,
        license_name,
        license_key,
        -- contracts may spell a licence differently: the latest one's name is published
        first_value(license_name) over (
            partition by org_id, app_id, license_key
            order by starts_on desc, license_name asc
            rows between unbounded preceding and unbounded following
        ) as published_name,
        starts_on,
        ends_on,
        purchased,
        annual_price,
        currency,
        minimum_purchased,
        billing_period
    from usable
    where listing = 1

)

select * from contracts
