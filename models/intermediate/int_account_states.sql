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

placed as (

    select
        accounts.*,
        {{ app_id('accounts.app_name', 'app_names.app_id') }} as app_id,
        {{ is_own_listing('accounts') }} as is_own_listing,
        streams.ended_on
    from accounts
    left join streams
        on accounts.connection_id = streams.connection_id and accounts.stream = streams.stream
    left join app_names
        on {{ normalized_name('accounts.app_name') }} = app_names.normalized_name

)

select * from placed
