{{ config(materialized='view') }}

with

-- the earliest event that is accepted is of 2000-01-01 UTC, in America a day before; 20,000 days on is 2054
days as (

    select cast('1999-12-31' as date) + cast(numbers.number - 1 as integer) as calendar_date
    from {{ numbers(20000) }} as numbers

)

select * from days
