{{ config(materialized='view') }}

-- depends_on: {{ ref('int_fetches') }}, by which the snapshot of this model tells the time
with

account_states as (

    select * from {{ ref('int_account_states') }}

),

current_states as (

    select *
    from account_states
    where valid_to is null

)

select * from current_states
