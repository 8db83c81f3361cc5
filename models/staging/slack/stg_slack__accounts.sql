with

users as (

    select * from {{ record_states('slack', 'users') }} as records

),

billable_info as (

    select * from {{ record_states('slack', 'billable_info') }} as records

),

billed as (

    select
        connection_id,
        record_id,
        account_id,
        'Billed' as license_name,
        cast(null as timestamp) as license_assigned_at,
        valid_from,
        valid_to
    from billable_info
    where is_billing_active and not has_gone

),

licensed as (
    {{ with_licenses('users', 'billed', 'accounts.account_id = licenses.account_id') }}
),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'slack' as connector,
        'users' as stream,
        listed_id as record_id,

        -- strings
        'Slack' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case when has_gone or is_deleted then 'deprovisioned' else 'active' end as account_status,
        case
            -- Slackbot is not marked as a bot
            when is_bot or account_id = 'USLACKBOT' then 'service'
            when is_restricted or is_ultra_restricted then 'external'
            else 'human'
        end as account_kind,
        license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        held_from as valid_from,
        held_to as valid_to
    from licensed

)

select * from renamed
