with

accounts as (
    {{ union_vendors('accounts') }}
),

app_names as (

    select * from {{ ref('int_app_names') }}

),

placed as (

    select
        accounts.*,
        {{ app_id('accounts.app_name', 'app_names.app_id') }} as app_id,
        {{ is_own_listing('accounts') }} as is_own_listing
    from accounts
    left join app_names
        on {{ normalized_name('accounts.app_name') }} = app_names.normalized_name

)

select * from placed
