with

users as (

    select * from {{ record_states('box', 'users') }} as records

),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'box' as connector,
        'users' as stream,
        record_id,

        -- strings
        'Box' as app_name,
        lower(trim(login)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            -- the other two may log in and not delete or upload
            when status in ('active', 'cannot_delete_edit', 'cannot_delete_edit_upload') then 'active'
            when status = 'inactive' then 'suspended'
            else 'unknown'
        end as account_status,
        case when is_app_user then 'service' else 'unknown' end as account_kind,
        cast(null as varchar(256)) as license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        valid_from,
        valid_to
    from users

)

select * from renamed
