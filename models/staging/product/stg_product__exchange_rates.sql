with

exchange_rates as (

    select * from {{ landing('product', 'exchange_rates') }} as landed

),

renamed as (

    select
        -- strings
        upper(trim(currency)) as currency,

        -- numerics
        rate,

        -- dates
        starts_on,
        lead(starts_on) over (partition by upper(trim(currency)) order by starts_on, rate) - 1 as ends_on
    from exchange_rates
    where rate > 0 and starts_on is not null

)

select * from renamed
