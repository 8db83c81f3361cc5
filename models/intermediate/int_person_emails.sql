{%- set dates = ['started_on', 'left_on', 'garden_leave_from'] %}

with

employees as (

    select * from {{ ref('stg_product__employees') }}

),

-- a verified alias is a statement about a person; a main address may have been another's before
emails as (

    select
        org_id,
        person_id,
        started_on,
        left_on,
        garden_leave_from,
        part as user_email,
        'alias' as matched_by,
        1 as trust
    from ({{ split_rows('employees', ['org_id', 'person_id'] + dates, 'alias_emails', ',') }}) as aliases
    union all
    select
        org_id,
        person_id,
        started_on,
        left_on,
        garden_leave_from,
        user_email,
        'email' as matched_by,
        2 as trust
    from employees

),

ranked as (

    select
        emails.*,
        -- whoever is hired again as somebody else, and whoever gets a leaver's address, has it now
        row_number() over (
            partition by org_id, user_email order by trust asc, left_on desc nulls first, person_id asc
        ) as email_rank
    from emails
    where user_email like '%@%'

),

chosen as (

    select
        org_id,
        user_email,
        person_id,
        matched_by,
        started_on,
        left_on,
        garden_leave_from
    from ranked
    where email_rank = 1

)

select * from chosen
