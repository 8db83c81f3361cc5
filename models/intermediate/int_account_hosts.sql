with

apps as (

    select * from {{ ref('int_apps') }}
    where is_current

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

events as (

    select * from {{ ref('int_events') }}
    where {{ within_last_days(7, column='occurred_at', condition='is_current') }}

),

uses as (

    select distinct
        events.org_id,
        events.app_id,
        accounts.person_id,
        accounts.person_class,
        events.usage_date,
        events.ip_address
    from events
    inner join accounts
        on events.connection_id = accounts.connection_id and events.account_key = accounts.account_key
    where
        events.is_activity
        and events.actor_kind <> 'system'
        and events.ip_address is not null
        and accounts.person_class in ('human', 'unknown', 'external')

),

-- an office has one address for all who are in it, which tells nothing
hosts as (

    select
        org_id,
        usage_date,
        ip_address,
        min(person_id) as host_id
    from uses
    where person_class = 'human'
    group by 1, 2, 3
    having count(distinct person_id) = 1

),

final as (

    select distinct
        uses.org_id,
        uses.app_id,
        uses.person_id,
        hosts.host_id
    from uses
    inner join apps
        on uses.org_id = apps.org_id and uses.app_id = apps.app_id
    inner join hosts
        on
            uses.org_id = hosts.org_id
            and uses.usage_date = hosts.usage_date
            and uses.ip_address = hosts.ip_address
    where
        uses.person_class in ('unknown', 'external')
        and uses.usage_date between apps.as_of_date - 6 and apps.as_of_date

)

select * from final
