with

people as (

    select * from {{ latest_records('webex', 'people') }} as records

),

licenses as (

    select * from {{ latest_records('webex', 'licenses') }} as records

),

-- a person has a list of licence ids; the account names them all, one row stays one account
licenses_by_account as (

    select
        people.connection_id,
        people.account_id,
        {{ dbt.listagg('licenses.license_name', "', '", 'order by licenses.license_name') }} as license_name
    from people
    inner join licenses
        on
            people.connection_id = licenses.connection_id
            and people.license_ids like '%"' || licenses.license_id || '"%'
    where not licenses.has_gone
    group by 1, 2

),

renamed as (

    select
        -- ids
        people.account_id,
        people.org_id,
        people.connection_id,
        'webex' as connector,
        'people' as stream,
        people.record_id,

        -- strings
        'Webex' as app_name,
        lower(trim(people.email)) as user_email,
        people.display_name as user_name,
        case
            when people.has_gone then 'deprovisioned'
            when people.is_invite_pending then 'invited'
            when not people.is_login_enabled then 'suspended'
            when people.is_login_enabled then 'active'
            else 'unknown'
        end as account_status,
        case
            when people.account_type = 'person' then 'human'
            when people.account_type in ('appuser', 'bot') then 'service'
            else 'unknown'
        end as account_kind,
        licenses_by_account.license_name,
        'any_activity' as last_activity_basis,

        -- booleans
        people.is_complete_listing,
        people.has_gone as is_gone,

        -- timestamps
        cast(null as timestamp) as license_assigned_at,
        {{ not_a_sentinel('people.last_activity_at', 'people.fetched_at') }} as last_activity_at,
        {{ not_a_sentinel('people.created_at', 'people.fetched_at') }} as created_at,
        people.fetched_at
    from people
    left join licenses_by_account
        on
            people.connection_id = licenses_by_account.connection_id
            and people.account_id = licenses_by_account.account_id

)

select * from renamed
