{%- set access_at = 'coalesce(accounts.license_assigned_at, accounts.created_at)' %}

with

usage as (

    select * from {{ ref('int_account_blocks') }}

),

accounts as (

    select * from {{ ref('int_accounts') }}

),

account_states as (

    select * from {{ ref('int_account_states') }}

),

people_of_accounts as (

    select * from {{ ref('dim_accounts') }}

),

time_zones as (

    select * from {{ ref('int_time_zones') }}

),

source_days as (

    select * from {{ ref('int_source_days') }}

),

histories as (

    select
        connection_id,
        min(usage_date) as starts_on
    from source_days
    group by 1

),

-- a source has been read since the first day that it told of, or since it was first listed
listings as (

    select
        account_states.connection_id,
        min({{ local_date('account_states.fetched_at', 'listing_zones.time_zone') }}) as starts_on
    from account_states
    {{ join_time_zone('listing_zones', 'account_states.org_id', 'account_states.fetched_at') }}
    group by 1

),

-- a listing shows an account for as long as the source has been read, or since the account was made
shown as (

    select
        usage.org_id,
        usage.app_id,
        usage.connector,
        usage.connection_id,
        usage.account_key,
        'events' as shown_by,
        min(usage.first_seen_on) as first_seen_on,
        cast(null as date) as access_from,
        cast(null as date) as listed_from,
        cast(null as bigint) as open_account_count,
        cast(null as bigint) as used_account_count
    from usage
    group by 1, 2, 3, 4, 5
    union all
    select
        accounts.org_id,
        accounts.app_id,
        accounts.connector,
        accounts.connection_id,
        accounts.account_id as account_key,
        accounts.stream as shown_by,
        min(
            greatest(
                coalesce(
                    {{ local_date('accounts.created_at', 'first_zones.time_zone') }},
                    histories.starts_on,
                    listings.starts_on
                ),
                least(histories.starts_on, listings.starts_on)
            )
        ) as first_seen_on,
        min({{ local_date(access_at, 'access_zones.time_zone') }}) as access_from,
        min({{ local_date('accounts.first_listed_at', 'listed_zones.time_zone') }}) as listed_from,
        sum(case when {{ can_log_in('accounts') }} then 1 else 0 end) as open_account_count,
        -- an attempt to log in is no use
        sum(
            case
                when accounts.last_activity_at is not null and accounts.last_activity_basis <> 'login_attempt' then 1
                else 0
            end
        ) as used_account_count
    from accounts
    {{ join_time_zone('first_zones', 'accounts.org_id', 'accounts.created_at') }}
    {{ join_time_zone('access_zones', 'accounts.org_id', access_at) }}
    {{ join_time_zone('listed_zones', 'accounts.org_id', 'accounts.first_listed_at') }}
    left join histories
        on accounts.connection_id = histories.connection_id
    left join listings
        on accounts.connection_id = listings.connection_id
    where accounts.account_id is not null
    group by 1, 2, 3, 4, 5, 6

),

evidence as (

    select
        shown.org_id,
        shown.app_id,
        people_of_accounts.person_id,
        people_of_accounts.person_class,
        shown.connector,
        shown.connection_id,
        shown.shown_by,
        min(shown.first_seen_on) as first_seen_on,
        min(shown.access_from) as access_from,
        min(shown.listed_from) as listed_from,
        cast(sum(shown.open_account_count) as bigint) as open_account_count,
        cast(sum(shown.used_account_count) as bigint) as used_account_count
    from shown
    inner join people_of_accounts
        on shown.connection_id = people_of_accounts.connection_id and shown.account_key = people_of_accounts.account_key
    group by 1, 2, 3, 4, 5, 6, 7

)

select * from evidence
