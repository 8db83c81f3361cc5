with

consumed_licenses as (

    select * from {{ record_states('github', 'consumed_licenses') }} as records

),

copilot_seats as (

    select * from {{ record_states('github', 'copilot_seats') }} as records

),

consumed_licenses_renamed as (

    select
        -- ids
        coalesce(nullif(login, ''), server_user_id, visual_studio_email) as account_id,
        org_id,
        connection_id,
        'github' as connector,
        'consumed_licenses' as stream,
        record_id,

        -- strings
        'GitHub' as app_name,
        lower(trim(coalesce(
            verified_email,
            case when saml_name_id like '%@%' then saml_name_id end,
            server_email,
            nullif(visual_studio_email, '')
        ))) as user_email,
        coalesce(nullif(display_name, ''), nullif(login, '')) as user_name,
        case
            when has_gone then 'deprovisioned'
            when coalesce(nullif(login, ''), server_user_id) is null then 'invited'
            else 'active'
        end as account_status,
        'unknown' as account_kind,
        license_type as license_name,
        cast(null as varchar(256)) as last_activity_basis,

        -- booleans
        is_complete_listing,
        has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        cast(null as timestamp) as last_activity_at,
        cast(null as timestamp) as created_at,
        fetched_at,
        valid_from,
        valid_to
    from consumed_licenses

),

copilot_seats_renamed as (

    select
        -- ids
        copilot_seats.login as account_id,
        copilot_seats.org_id,
        copilot_seats.connection_id,
        'github' as connector,
        'copilot_seats' as stream,
        copilot_seats.record_id,

        -- strings
        'GitHub Copilot' as app_name,
        lower(trim(coalesce(
            consumed_licenses.verified_email,
            case when consumed_licenses.saml_name_id like '%@%' then consumed_licenses.saml_name_id end
        ))) as user_email,
        coalesce(nullif(consumed_licenses.display_name, ''), copilot_seats.login) as user_name,
        case when copilot_seats.has_gone then 'deprovisioned' else 'active' end as account_status,
        'unknown' as account_kind,
        coalesce('Copilot ' || copilot_seats.plan_type, 'Copilot') as license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        copilot_seats.is_complete_listing,
        copilot_seats.has_gone as is_gone,

        -- timestamps
        {{ not_a_sentinel('copilot_seats.assigned_at', 'copilot_seats.fetched_at') }} as license_assigned_at,
        {{ not_a_sentinel('copilot_seats.last_activity_at', 'copilot_seats.fetched_at') }} as last_activity_at,
        cast(null as timestamp) as created_at,
        copilot_seats.fetched_at,
        copilot_seats.valid_from,
        copilot_seats.valid_to
    from copilot_seats
    left join consumed_licenses
        on
            copilot_seats.connection_id = consumed_licenses.connection_id
            and copilot_seats.login = consumed_licenses.login
            and not consumed_licenses.has_gone
            and consumed_licenses.valid_to is null

),

renamed as (

    select * from consumed_licenses_renamed

    union all
    select * from copilot_seats_renamed

)

select * from renamed
