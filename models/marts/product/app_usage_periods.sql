{%- set periods = ['week', 'month'] %}

with

app_days as (

    select * from {{ ref('int_app_class_days') }}
    where person_class = 'human'

),

periods as (
    {% for period in periods %}
    select
        org_id,
        app_id,
        '{{ period }}' as period_kind,
        cast({{ dbt.date_trunc(period, 'usage_date') }} as date) as period_start_date,
        max(usage_date) as last_date,
        count(*) as day_count,
        min(case when is_final then 1 else 0 end) as are_all_final,
        cast(sum(complete_count) as double precision) / nullif(sum(source_count), 0) as data_complete_ratio,
        -- a person counts in a period on the first day of use in it
        sum({{ period }}_arrivals) as user_count
    from app_days
    group by 1, 2, 3, 4
    {%- if not loop.last %}
    union all
    {%- endif %}
    {% endfor %}
),

joined as (

    select
        periods.org_id,
        periods.app_id,
        periods.period_kind,
        periods.period_start_date,
        case periods.period_kind
            when 'week' then periods.period_start_date + 6
            else cast({{ dbt.dateadd('month', 1, 'periods.period_start_date') }} as date) - 1
        end as period_end_date,
        periods.day_count,
        periods.are_all_final,
        periods.data_complete_ratio,
        coalesce(periods.data_complete_ratio >= {{ var('min_complete_ratio') }}, false) as usage_known,
        periods.user_count,
        last_days.sources
    from periods
    inner join app_days as last_days
        on
            periods.org_id = last_days.org_id
            and periods.app_id = last_days.app_id
            and periods.last_date = last_days.usage_date

),

final as (

    select
        org_id,
        app_id,
        period_kind,
        period_start_date,
        period_end_date,
        case when usage_known then cast(user_count as bigint) end as active,
        usage_known,
        {{ days_between('period_start_date', 'period_end_date') }} + 1 > day_count as is_partial,
        are_all_final = 1 and {{ days_between('period_start_date', 'period_end_date') }} + 1 = day_count as is_final,
        data_complete_ratio,
        sources,
        {{ definition_version() }} as definition_version
    from joined

)

select * from final
order by period_start_date
