with

leavers as (

    select * from {{ ref('int_leavers') }}

),

uses as (

    select * from {{ ref('int_offboarded_uses') }}

),

events as (

    select * from {{ ref('int_events') }}
    where {{ within_days(ref('int_offboarded_uses')) }}

),

accounts as (

    select * from {{ ref('int_accounts') }}

),

people_of_accounts as (

    select * from {{ ref('dim_accounts') }}

),

seats as (

    select * from {{ ref('int_seats') }}

),

fetches as (

    select * from {{ ref('stg_fetches') }}

),

exemptions as (

    select * from {{ ref('stg_product__license_exemptions') }}

),

person_apps as (

    select * from {{ ref('int_person_apps') }}

),

ranked_events as (

    select
        uses.org_id,
        uses.person_id,
        uses.app_id,
        uses.account_id,
        uses.severity,
        events.event_id,
        events.occurred_at,
        events.load_id,
        events.connector,
        events.connection_id,
        events.stream,
        row_number() over (
            partition by uses.org_id, uses.person_id, uses.app_id, uses.account_id
            order by events.occurred_at, events.event_id
        ) as event_rank
    from uses
    inner join events
        on
            uses.connection_id = events.connection_id
            and uses.account_key = events.account_key
            and uses.app_id = events.app_id
            and uses.usage_date = events.usage_date
            and uses.source_kind = events.source_kind
    where events.is_activity

),

-- known since the first fetch that reached the event
evidence as (

    select
        ranked_events.org_id,
        ranked_events.person_id,
        ranked_events.app_id,
        ranked_events.account_id,
        ranked_events.severity,
        ranked_events.event_id,
        ranked_events.occurred_at,
        ranked_events.load_id,
        ranked_events.connector,
        min(fetches.fetched_at) as told_at
    from ranked_events
    left join fetches
        on
            ranked_events.connection_id = fetches.connection_id
            and ranked_events.stream = fetches.stream
            and fetches.outcome = 'complete'
            and ranked_events.occurred_at >= fetches.window_started_at
            and ranked_events.occurred_at < fetches.window_ended_at
    where ranked_events.event_rank = 1
    group by 1, 2, 3, 4, 5, 6, 7, 8, 9

),

listed_elsewhere as (

    select distinct
        org_id,
        app_id,
        account_id
    from accounts
    where ended_on is null

),

-- that a connection has ended closes no account: what it listed last stays so, until another connection lists it
left_open as (

    select
        accounts.org_id,
        leavers.person_id,
        accounts.app_id,
        accounts.account_id,
        accounts.connection_id,
        accounts.stream,
        leavers.overdue_at,
        case
            when {{ can_log_in('accounts') }} then 2
            when seats.record_id is not null and not leavers.is_suspended_expected then 3
        end as severity
    from accounts
    inner join people_of_accounts
        on
            accounts.connection_id = people_of_accounts.connection_id
            and accounts.account_id = people_of_accounts.account_key
    inner join leavers
        on people_of_accounts.org_id = leavers.org_id and people_of_accounts.person_id = leavers.person_id
    left join seats
        on
            accounts.connection_id = seats.connection_id
            and accounts.stream = seats.stream
            and accounts.record_id = seats.record_id
            and seats.held_to is null
    left join listed_elsewhere
        on
            accounts.org_id = listed_elsewhere.org_id
            and accounts.app_id = listed_elsewhere.app_id
            and accounts.account_id = listed_elsewhere.account_id
    where not accounts.is_gone and (accounts.ended_on is null or listed_elsewhere.account_id is null)

),

-- a listing from before proves nothing: known since the first complete one that still had the account
listings as (

    select
        listed.connection_id,
        listed.stream,
        listed.overdue_at,
        min(fetches.fetched_at) as told_at
    from (
        select distinct
            connection_id,
            stream,
            overdue_at
        from left_open
    ) as listed
    inner join fetches
        on
            listed.connection_id = fetches.connection_id
            and listed.stream = fetches.stream
            and fetches.outcome = 'complete'
            and listed.overdue_at <= fetches.fetched_at
    group by 1, 2, 3

),

findings as (

    select
        org_id,
        person_id,
        app_id,
        account_id,
        severity,
        told_at
    from evidence
    union all
    select
        left_open.org_id,
        left_open.person_id,
        left_open.app_id,
        left_open.account_id,
        left_open.severity,
        listings.told_at
    from left_open
    inner join listings
        on
            left_open.connection_id = listings.connection_id
            and left_open.stream = listings.stream
            and left_open.overdue_at = listings.overdue_at
    where left_open.severity is not null

),

ranked as (

    select
        findings.*,
        row_number() over (
            partition by org_id, person_id, app_id, account_id order by severity, told_at nulls last
        ) as finding_rank
    from findings

),

-- what accounts are called: in one app's listing, or at all
addresses as (

    select
        connection_id,
        account_id as account_key,
        app_id,
        user_email
    from accounts
    union all
    select
        connection_id,
        account_key,
        null as app_id,
        user_email
    from people_of_accounts

),

-- a legal hold, a mailbox that others read: allowed by name, and for a time only
exempted as (

    select distinct
        leavers.org_id,
        leavers.person_id,
        exemptions.app_id,
        people_of_accounts.account_id
    from leavers
    inner join people_of_accounts
        on leavers.org_id = people_of_accounts.org_id and leavers.person_id = people_of_accounts.person_id
    inner join addresses
        on
            people_of_accounts.connection_id = addresses.connection_id
            and people_of_accounts.account_key = addresses.account_key
    inner join exemptions
        on
            people_of_accounts.org_id = exemptions.org_id
            and addresses.user_email = exemptions.user_email
            and coalesce(addresses.app_id, exemptions.app_id) = exemptions.app_id
    where exemptions.expires_on >= leavers.today

),

final as (

    select
        ranked.org_id,
        ranked.person_id,
        ranked.app_id,
        ranked.account_id,
        cast(ranked.severity as bigint) as severity,
        leavers.left_on,
        leavers.access_ended_on,
        leavers.is_suspended_expected,
        evidence.event_id as evidence_event_id,
        evidence.occurred_at as evidence_at,
        evidence.load_id as evidence_load_id,
        evidence.connector as evidence_source,
        greatest(ranked.told_at, leavers.overdue_at) as detected_at,
        coalesce(person_apps.usage_known, false) as usage_known,
        person_apps.sources,
        {{ definition_version() }} as definition_version
    from ranked
    inner join leavers
        on ranked.org_id = leavers.org_id and ranked.person_id = leavers.person_id
    left join evidence
        on
            ranked.org_id = evidence.org_id
            and ranked.person_id = evidence.person_id
            and ranked.app_id = evidence.app_id
            and ranked.account_id = evidence.account_id
    left join person_apps
        on
            ranked.org_id = person_apps.org_id
            and ranked.person_id = person_apps.person_id
            and ranked.app_id = person_apps.app_id
    left join exempted
        on
            ranked.org_id = exempted.org_id
            and ranked.person_id = exempted.person_id
            and ranked.app_id = exempted.app_id
            and ranked.account_id = exempted.account_id
    where ranked.finding_rank = 1 and exempted.account_id is null

)

select * from final
