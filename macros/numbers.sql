{# A relation with the numbers from 1 to `count` in the column `number`. #}
{% macro numbers(count) %}
    {{- return(adapter.dispatch('numbers')(count)) -}}
{% endmacro %}

{% macro default__numbers(count) -%}
    (select series.number from generate_series(1, {{ count }}) as series (number))
{%- endmacro %}

{# generate_series() runs on Redshift's leader node only, where it meets no table. #}
{% macro redshift__numbers(count) -%}
    (
        select 1
            {%- for power in range((count - 1) | string | length) %} + {{ 10 ** power }} * digit_{{ power }}.digit {%- endfor %} as number
        from
            {%- for power in range((count - 1) | string | length) %}
            {{ 'cross join ' if not loop.first }}(
                {%- for digit in range(10) %}select {{ digit }} as digit{{ ' union all ' if not loop.last }}{% endfor -%}
            ) as digit_{{ power }}
            {%- endfor %}
        where 1
            {%- for power in range((count - 1) | string | length) %} + {{ 10 ** power }} * digit_{{ power }}.digit {%- endfor %} <= {{ count }}
    )
{%- endmacro %}


{# A share between 0 and 1: null where there is nothing to have a share of, or something is not known. #}
{% macro rate(part, whole) -%}
    case when {{ whole }} > 0 then case when {{ part }} > {{ whole }} then 1 else cast({{ part }} as double precision) / {{ whole }} end end
{%- endmacro %}


{# How many of the last `bits` bits of a number are set. #}
{% macro bit_count(number, bits) -%}
    (
        {%- for bit in range(bits) -%}
            {{ ' + ' if not loop.first }}(({{ number }} >> {{ bit }}) & 1)
        {%- endfor -%}
    )
{%- endmacro %}


{# Whether two columns hold the same, be it nothing. #}
{% macro is_same(one, other) -%}
    coalesce({{ one }} = {{ other }}, {{ one }} is null and {{ other }} is null)
{%- endmacro %}


{# What engines compute by different ways to the last digit. #}
{% macro rounded(number) -%}
    cast(cast({{ number }} as numeric(18, 6)) as double precision)
{%- endmacro %}
