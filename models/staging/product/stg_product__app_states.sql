with

app_states as (

    select * from {{ landing('product', 'app_states') }} as landed

),

renamed as (

    select
        -- ids
        org_id,
        app_id,

        -- strings
        state as app_state,

        -- timestamps
        changed_at
    from app_states

)

select * from renamed
