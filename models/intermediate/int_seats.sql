with

account_states as (

    select * from {{ ref('int_account_states') }}

),

accounts as (

    select * from {{ ref('dim_accounts') }}

),

contracts as (

    select * from {{ ref('int_contracts') }}

),

apps as (

    select * from {{ ref('int_apps') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

free_licenses as (

    select * from {{ ref('free_licenses') }}

),

-- a vendor that names licences says who holds none; of one that names none, every account may hold a seat
apps_with_licenses as (

    select distinct
        org_id,
        app_id
    from account_states
    where license_name is not null

),

holders as (

    select
        account_states.*,
        coalesce({{ normalized_name('account_states.license_name') }}, '') as license_key,
        max(case when account_states.is_own_listing then 1 else 0 end) over (
            partition by account_states.org_id, account_states.app_id
        ) as has_own_listing
    from account_states
    left join apps_with_licenses
        on
            account_states.org_id = apps_with_licenses.org_id
            and account_states.app_id = apps_with_licenses.app_id
    left join free_licenses
        on
            account_states.app_id = free_licenses.app_id
            and {{ normalized_name('account_states.license_name') }}
            = {{ normalized_name('free_licenses.license_name') }}
    where
        account_states.account_id is not null
        and not account_states.is_gone
        and account_states.account_status <> 'deprovisioned'
        and free_licenses.app_id is null
        and (account_states.license_name is not null or apps_with_licenses.app_id is null)

),

-- where no licence is named, an identity provider's list of who may use an app gives way to the app's own
seats as (

    select
        holders.*,
        case
            when
                max(coalesce(valid_to, cast('9999-12-31' as timestamp))) over (
                    partition by connection_id, stream, app_id, account_id, license_key
                    order by valid_from, record_id
                    rows between unbounded preceding and 1 preceding
                ) >= valid_from
                then 0
            else 1
        end as begins
    from holders
    where license_key <> '' or is_own_listing or has_own_listing = 0

),

-- an account changes while it holds its licence, and its record does where that is named by an e-mail: the licence was
-- assigned before the first of these states
held as (

    select
        seats.*,
        sum(begins) over (
            partition by connection_id, stream, app_id, account_id, license_key
            order by valid_from, record_id
            rows between unbounded preceding and current row
        ) as holding
    from seats

),

assigned as (

    select
        held.*,
        min(valid_from) over (
            partition by connection_id, stream, app_id, account_id, license_key, holding
        ) as holding_from
    from held

),

timed as (

    select
        assigned.*,
        coalesce(
            license_assigned_at,
            case when holding_from = cast('2000-01-01' as timestamp) then created_at else holding_from end
        ) as assigned_at
    from assigned

),

dated as (

    select
        timed.*,
        {{ local_date('timed.assigned_at', 'assigned_zones.time_zone') }} as assigned_on,
        case
            when timed.last_activity_basis = 'report_date' then cast(timed.last_activity_at as date)
            -- an attempt to log in is no use
            when timed.last_activity_basis <> 'login_attempt'
                then {{ local_date('timed.last_activity_at', 'activity_zones.time_zone') }}
        end as last_activity_on,
        {{ local_date('timed.fetched_at', 'fetch_zones.time_zone') }} as listed_on,
        {{ local_date('timed.valid_from', 'first_zones.time_zone') }} as state_from,
        {{ local_date('timed.valid_to', 'last_zones.time_zone') }} - 1 as state_to
    from timed
    {{ join_time_zone('assigned_zones', 'timed.org_id', 'timed.assigned_at') }}
    {{ join_time_zone('activity_zones', 'timed.org_id', 'timed.last_activity_at') }}
    {{ join_time_zone('fetch_zones', 'timed.org_id', 'timed.fetched_at') }}
    {{ join_time_zone('first_zones', 'timed.org_id', 'timed.valid_from') }}
    {{ join_time_zone('last_zones', 'timed.org_id', 'timed.valid_to') }}

),

-- the days on which a listing brought something new
listing_days as (

    select
        listed.connection_id,
        listed.stream,
        listed.listed_on,
        lag(listed.listed_on) over (
            partition by listed.connection_id, listed.stream order by listed.listed_on
        ) as previous_on
    from (
        select distinct
            account_states.connection_id,
            account_states.stream,
            {{ local_date('account_states.fetched_at', 'listing_zones.time_zone') }} as listed_on
        from account_states
        {{ join_time_zone('listing_zones', 'account_states.org_id', 'account_states.fetched_at') }}
    ) as listed

),

-- what an account did on a day only a listing of a later day can tell
followed as (

    select
        dated.*,
        lead(last_activity_on) over (
            partition by connection_id, stream, record_id, license_key order by valid_from
        ) as next_activity_on,
        lead(listed_on) over (
            partition by connection_id, stream, record_id, license_key order by valid_from
        ) as next_listed_on
    from dated

),

-- what lapses without a successor takes no seat with it: its name stays
contracted as (

    select
        contracts.org_id,
        contracts.app_id,
        max(
            case when contracts.ends_on < apps.as_of_date then contracts.ends_on else apps.as_of_date end
        ) as last_contracted_on
    from contracts
    inner join apps
        on contracts.org_id = apps.org_id and contracts.app_id = apps.app_id
    where contracts.starts_on <= apps.as_of_date
    group by 1, 2

),

-- a licence goes by the contract's name; where one is bought and one is held they are the same, whatever it is called
contract_names as (

    select
        contracts.org_id,
        contracts.app_id,
        contracts.license_key,
        min(contracts.published_name) as license_name,
        max(case
            when
                contracts.starts_on <= contracted.last_contracted_on
                and (contracts.ends_on >= contracted.last_contracted_on or contracts.ends_on is null)
                then 1
            else 0
        end) as is_in_force
    from contracts
    left join contracted
        on contracts.org_id = contracted.org_id and contracts.app_id = contracted.app_id
    group by 1, 2, 3

),

only_contracts as (

    select
        org_id,
        app_id,
        min(license_name) as license_name
    from contract_names
    where is_in_force = 1
    group by 1, 2
    having count(*) = 1

),

only_licenses as (

    select
        dated.org_id,
        dated.app_id,
        min(dated.license_key) as license_key
    from dated
    inner join apps
        on dated.org_id = apps.org_id and dated.app_id = apps.app_id
    where
        coalesce(least(dated.state_to, dated.ended_on - 1), apps.as_of_date)
        >= cast({{ dbt.date_trunc('month', 'apps.as_of_date') }} as date)
    group by 1, 2
    having count(distinct dated.license_key) = 1

),

named as (

    select
        followed.org_id,
        followed.app_id,
        coalesce(
            contract_names.license_name,
            case when only_licenses.license_key = followed.license_key then only_contracts.license_name end,
            min(trim(followed.license_name)) over (partition by followed.org_id, followed.app_id, followed.license_key)
        ) as license_name,
        contract_names.license_name is null
        and coalesce(only_licenses.license_key = followed.license_key, false) as is_only_license,
        followed.connector,
        followed.connection_id,
        followed.stream,
        followed.record_id,
        followed.account_id,
        followed.user_email,
        followed.account_status,
        followed.last_activity_on,
        followed.next_activity_on,
        listing_days.previous_on as next_told_from,
        followed.last_activity_basis is not null as tells_last_activity,
        followed.assigned_on,
        greatest(followed.state_from, followed.assigned_on) as held_from,
        followed.state_to as held_to,
        followed.ended_on
    from followed
    left join listing_days
        on
            followed.connection_id = listing_days.connection_id
            and followed.stream = listing_days.stream
            and followed.next_listed_on = listing_days.listed_on
    left join contract_names
        on
            followed.org_id = contract_names.org_id
            and followed.app_id = contract_names.app_id
            and followed.license_key = contract_names.license_key
    left join only_licenses
        on followed.org_id = only_licenses.org_id and followed.app_id = only_licenses.app_id
    left join only_contracts
        on followed.org_id = only_contracts.org_id and followed.app_id = only_contracts.app_id

),

final as (

    select
        named.*,
        accounts.person_id,
        accounts.person_class
    from named
    inner join accounts
        on named.connection_id = accounts.connection_id and named.account_id = accounts.account_key
    where
        named.license_name is not null
        and (named.held_to >= named.held_from or named.held_to is null)

)

select * from final
