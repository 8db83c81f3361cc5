-- The accounts of as of now, counted by their last use, are those that the steps of their windows add up to.
{%- set figures = ['dau', 'wau', 'mau_28', 'mau_30', 'mau_90'] %}
with

classes as (

    select * from {{ ref('app_usage_classes') }}
    where person_class <> 'human'

),

days as (

    select * from {{ ref('app_usage_daily_classes') }}

)

select
    classes.org_id,
    classes.app_id,
    classes.person_class
from classes
left join days
    on
        classes.org_id = days.org_id
        and classes.app_id = days.app_id
        and classes.person_class = days.person_class
        and classes.as_of_date = days.usage_date
where
    days.usage_date is null
    {%- for figure in figures %}
    or classes.{{ figure }} <> days.{{ figure }}
    {%- endfor %}
