{{ config(materialized='view') }}

with

-- 2000-01-01 is the earliest day of an event that is accepted; 20,000 days on is 2054
days as (

    select cast('2000-01-01' as date) + cast(numbers.number - 1 as integer) as calendar_date
    from {{ numbers(20000) }} as numbers

)

select * from days
