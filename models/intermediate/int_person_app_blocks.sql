with

usage as (

    select * from {{ ref('int_account_blocks') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

person_blocks as (

    select
        usage.org_id,
        usage.app_id,
        accounts.person_id,
        min(accounts.person_class) as person_class,
        usage.block_start_date,
        min(usage.first_used_on) as first_used_on,
        max(usage.last_used_on) as last_used_on
    from usage
    inner join accounts
        on usage.connection_id = accounts.connection_id and usage.account_key = accounts.account_key
    where usage.first_used_on is not null
    group by usage.org_id, usage.app_id, accounts.person_id, usage.block_start_date

)

select * from person_blocks
