with

apps as (

    select * from {{ ref('int_apps') }}
    where is_current

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

events as (

    select
        org_id,
        app_id,
        connection_id,
        account_key,
        usage_date,
        ip_address
    from {{ ref('int_events') }}
    where
        {{ within_last_days(7, column='occurred_at', condition='is_current') }}
        and is_activity
        and actor_kind <> 'system'
        and ip_address is not null

),

visits as (

    select distinct
        events.org_id,
        events.app_id,
        accounts.person_id,
        events.ip_address,
        apps.as_of_date
    from events
    inner join accounts
        on events.connection_id = accounts.connection_id and events.account_key = accounts.account_key
    inner join apps
        on events.org_id = apps.org_id and events.app_id = apps.app_id
    where
        accounts.person_class in ('unknown', 'external')
        and events.usage_date between apps.as_of_date - 6 and apps.as_of_date

),

addresses as (

    select distinct
        org_id,
        ip_address,
        as_of_date
    from visits

),

-- an office or an agency has one address for all who are in it, which tells nothing
hosts as (

    select
        addresses.org_id,
        addresses.ip_address,
        addresses.as_of_date,
        min(accounts.person_id) as host_id
    from addresses
    inner join events
        on addresses.org_id = events.org_id and addresses.ip_address = events.ip_address
    inner join accounts
        on events.connection_id = accounts.connection_id and events.account_key = accounts.account_key
    where
        accounts.person_class = 'human'
        and events.usage_date between addresses.as_of_date - 6 and addresses.as_of_date
    group by 1, 2, 3
    having count(distinct accounts.person_id) = 1

),

final as (

    select distinct
        visits.org_id,
        visits.app_id,
        visits.person_id,
        hosts.host_id
    from visits
    inner join hosts
        on
            visits.org_id = hosts.org_id
            and visits.ip_address = hosts.ip_address
            and visits.as_of_date = hosts.as_of_date

)

select * from final
