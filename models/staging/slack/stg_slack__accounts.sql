with

users as (

    select * from {{ latest_records('slack', 'users') }} as records

),

billable_info as (

    select * from {{ latest_records('slack', 'billable_info') }} as records

),

renamed as (

    select
        -- ids
        users.account_id,
        users.org_id,
        users.connection_id,
        'slack' as connector,
        'users' as stream,
        users.record_id,

        -- strings
        'Slack' as app_name,
        lower(trim(users.email)) as user_email,
        users.display_name as user_name,
        case when users.has_gone or users.is_deleted then 'deprovisioned' else 'active' end as account_status,
        case
            -- Slackbot is not marked as a bot
            when users.is_bot or users.account_id = 'USLACKBOT' then 'service'
            when users.is_restricted or users.is_ultra_restricted then 'external'
            else 'human'
        end as account_kind,
        case when billable_info.is_billing_active then 'Billed' end as license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        users.is_complete_listing,
        users.has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        cast(null as timestamp) as created_at,
        users.fetched_at
    from users
    left join billable_info
        on
            users.connection_id = billable_info.connection_id
            and users.account_id = billable_info.account_id
            and not billable_info.has_gone

)

select * from renamed
