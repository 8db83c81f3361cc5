{# Every row's columns are those of a row of `to`. #}
{% test is_in(model, columns, to) %}

select distinct
    {%- for column in columns %}
    referring.{{ column }}{{ ',' if not loop.last }}
    {%- endfor %}
from {{ model }} as referring
left join {{ to }} as referred
    on
        {%- for column in columns %}
        {{ 'and ' if not loop.first }}referring.{{ column }} = referred.{{ column }}
        {%- endfor %}
where referred.{{ columns[0] }} is null

{% endtest %}
