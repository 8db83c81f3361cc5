{{ config(materialized='view') }}

with

class_days as (

    select * from {{ ref('int_app_class_days') }}
    where person_class <> 'human'

),

final as (

    select
        org_id,
        app_id,
        person_class,
        usage_date,
        dau,
        wau,
        mau_28,
        mau_30,
        mau_90,
        is_final,
        is_partial,
        usage_known,
        data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version
    from class_days

)

select * from final
