{{ config(materialized='view') }}

-- depends_on: {{ ref('int_fetches') }}, by which the snapshot of this model tells the time
with

person_emails as (

    select * from {{ ref('int_person_emails') }}

),

hashed as (

    select
        org_id,
        md5(user_email) as email_hash,
        person_id,
        matched_by,
        started_on,
        left_on,
        garden_leave_from
    from person_emails

)

select * from hashed
