with

people as (

    select * from {{ record_states('webex', 'people') }} as records

),

licenses as (

    select * from {{ record_states('webex', 'licenses') }} as records

),

named_licenses as (

    select
        connection_id,
        record_id,
        license_id,
        license_name,
        cast(null as timestamp) as license_assigned_at,
        valid_from,
        valid_to
    from licenses
    where not has_gone

),

-- a person has a list of licence ids
licensed as (
    {{ with_licenses('people', 'named_licenses', "accounts.license_ids like '%\"' || licenses.license_id || '\"%'") }}
),

renamed as (

    select
        -- ids
        account_id,
        org_id,
        connection_id,
        'webex' as connector,
        'people' as stream,
        listed_id as record_id,

        -- strings
        'Webex' as app_name,
        lower(trim(email)) as user_email,
        display_name as user_name,
        case
            when has_gone then 'deprovisioned'
            when is_invite_pending then 'invited'
            when not is_login_enabled then 'suspended'
            when is_login_enabled then 'active'
            else 'unknown'
        end as account_status,
        case
            when account_type = 'person' then 'human'
            when account_type = 'bot' then 'service'
            when account_type = 'appuser' then 'external'
            else 'unknown'
        end as account_kind,
        license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        license_assigned_at,
        {{ not_a_sentinel('last_activity_at') }} as last_activity_at,
        {{ not_a_sentinel('created_at') }} as created_at,
        fetched_at,
        held_from as valid_from,
        held_to as valid_to
    from licensed

)

select * from renamed
