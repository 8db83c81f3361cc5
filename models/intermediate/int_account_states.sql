with

accounts as (
    {{ union_vendors('accounts') }}
),

app_names as (

    select * from {{ ref('int_app_names') }}

),

streams as (

    select * from {{ ref('int_streams') }}

),

ended as (

    select
        connection_id,
        max(ended_on) as ended_on
    from streams
    where ended_on is not null
    group by 1

),

placed as (

    select
        accounts.*,
        {{ app_id('accounts.app_name', 'app_names.app_id') }} as app_id,
        {{ is_own_listing('accounts') }} as is_own_listing,
        min(accounts.valid_from) over (
            partition by accounts.connection_id, accounts.stream, accounts.account_id, accounts.app_name
        ) as first_listed_at,
        ended.ended_on
    from accounts
    left join ended
        on accounts.connection_id = ended.connection_id
    left join app_names
        on {{ normalized_name('accounts.app_name') }} = app_names.normalized_name

)

select * from placed
