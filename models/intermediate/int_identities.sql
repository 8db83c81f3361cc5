{{ config(materialized='incremental', incremental_strategy='append') }}

with

accounts as (

    select * from {{ ref('dim_accounts') }}

),

{% if is_incremental() -%}
known as (

    select
        identities.*,
        row_number() over (partition by connection_id, account_key order by identity_id desc) as recency
    from {{ this }} as identities

),

{% endif -%}
changed as (

    select
        accounts.org_id,
        accounts.connection_id,
        accounts.account_key,
        accounts.person_id,
        accounts.person_class,
        {{ next_number('identity_id') }} as identity_id
    from accounts
    {% if is_incremental() -%}
    left join known
        on
            accounts.connection_id = known.connection_id
            and accounts.account_key = known.account_key
            and known.recency = 1
    where
        known.account_key is null
        or known.person_id <> accounts.person_id
        or known.person_class <> accounts.person_class
    {%- endif %}

)

select * from changed
