"""Chat templates that try to take time, memory or more than that; each must end within limits.

`TEXT` and `ROWS` in a template stand for a text and a list that a request could bring.
"""

from __future__ import annotations

_BIG = "{% set s = 'ab' * 1000000 %}"
_LIST = "{% set l = range(99999) | list %}"
_DEEP = 10_000

HOSTILE: dict[str, str] = {
    # Numbers
    "power of a small base": "{{ 7 ** 3000000 }}",
    "power of a power": "{{ 9 ** 9 ** 9 }}",
    "power by the filter": "{{ [7, 3000000] | map('int') | sum ** 3000000 }}",
    "power in a loop": "{% set n = namespace(x=7) %}{% for i in range(40) %}"
    "{% set n.x = n.x ** 3 %}{% endfor %}{{ n.x }}",
    "product in a loop": "{% set n = namespace(x=7) %}{% for i in range(60) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}{{ n.x % 10 }}",
    "huge integer as text": "{% set n = namespace(x=7) %}{% for i in range(22) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}{{ n.x }}",
    "huge integer by a filter": "{{ ('9' * 1000000) | int }}",
    "huge integer divided": "{% set n = namespace(x=7) %}{% for i in range(24) %}"
    "{% set n.x = n.x * n.x %}{% endfor %}{% for i in range(9999) %}{{ n.x // 3 % 7 }}{% endfor %}",
    "float of a huge power": "{{ 10.0 ** 400 }}{{ 2 ** 10000 / 3 }}",
    # Loops
    "nested loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "six nested loops": "{% for a in range(99999) %}{% for b in range(99999) %}"
    "{% for c in range(99999) %}{% for d in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"
    "{% endfor %}",
    "huge range": "{% for i in range(10 ** 9) %}{% endfor %}",
    "range without a loop": "{{ range(10 ** 9) | list | length }}",
    "ranges summed": "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "ranges listed": "{% for i in range(9999) %}{{ range(99999) | list | length }}{% endfor %}",
    "recursive loop": "{% for i in [1] recursive %}{{ loop([1, 1]) }}{% endfor %}",
    "loop over a growing list": "{% set n = namespace(l=[1]) %}{% for i in range(40) %}"
    "{% set n.l = n.l + n.l %}{% endfor %}{{ n.l | length }}",
    "loop length of nested ranges": "{% for i in range(99999) %}{% for j in range(99999) %}"
    "{{ loop.length }}{% break %}{% endfor %}{% endfor %}",
    "cycler": "{% set c = cycler('a', 'b') %}{% for i in range(99999) %}"
    "{% for j in range(99999) %}{{ c.next() }}{% endfor %}{% endfor %}",
    "joiner": "{% set j = joiner('x' * 9999) %}{% for i in range(99999) %}{{ j() }}{% endfor %}",
    # Macros
    "macro that calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "macro that calls itself twice": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}"
    "{% endif %}{% endmacro %}{{ f(60) }}",
    "macros that double a text": "{% macro f(s, n) %}{% if n %}{{ f(s + s, n - 1) }}"
    "{% else %}{{ s }}{% endif %}{% endmacro %}{{ f('ab', 60) }}",
    "call block that calls itself": "{% macro f() %}{{ caller() }}{{ caller() }}{% endmacro %}"
    "{% macro g(n) %}{% call f() %}{% if n %}{{ g(n - 1) }}{% endif %}{% endcall %}{% endmacro %}"
    "{{ g(60) }}",
    # Texts
    "text times a number": "{{ 'a' * 10 ** 12 }}",
    "list times a number": "{{ [1] * 10 ** 12 }}",
    "tuple times a number": "{{ (1, 2) * 10 ** 12 }}",
    "lists of lists": "{% set n = namespace(l=[1]) %}{% for i in range(999) %}"
    "{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l }}",
    "doubled by tilde": "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
    "{% set n.s = n.s ~ n.s %}{% endfor %}",
    "doubled by plus": "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
    "{% set n.s = n.s + n.s %}{% endfor %}",
    "doubled by replace": "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
    "{% set n.s = n.s.replace('a', n.s) %}{% endfor %}",
    "doubled by a set block": "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
    "{% set x %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = x %}{% endfor %}",
    "doubled by a filter block": "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
    "{% set x %}{% filter upper %}{{ n.s }}{{ n.s }}{% endfilter %}{% endset %}"
    "{% set n.s = x %}{% endfor %}",
    "doubled by join": "{% set n = namespace(s='ab') %}{% for i in range(99) %}"
    "{% set n.s = [n.s, n.s] | join(n.s) %}{% endfor %}",
    "many large texts": "{% for i in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "texts kept": "{% set n = namespace(l=[]) %}{% for i in range(9999) %}"
    "{% set n.l = n.l + ['a' * 9999 ~ i] %}{% endfor %}",
    "padding": "{{ 'a'.ljust(10 ** 12) }}{{ 'a'.zfill(10 ** 12) }}",
    "padding by the filter": "{{ 'a' | center(10 ** 12) }}",
    "tabs": "{{ ('\t' * 100000).expandtabs(10000) }}",
    "indent": "{{ ('\n' * 1000000) | indent(9999, true, true) }}",
    "indent by a text": "{{ ('\n' * 1000000) | indent('x' * 10000, true, true) }}",
    "wordwrap": _BIG + "{{ s | wordwrap(1) }}",
    "wordwrap with long breaks": _BIG + "{{ s | wordwrap(1, true, 'x' * 9999) }}",
    "translate": _BIG + "{{ s.translate({97: 'x' * 9999}) }}",
    "upper of a text that grows": "{{ ('ŉ' * 10000000) | upper }}",
    "format width": "{{ '%999999999d' % 1 }}",
    "computed format width": "{{ '%*d' % (999999999, 1) }}",
    "nested format width": "{{ '{:{w}}'.format(1, w=999999999) }}",
    "format precision": "{{ '%.999999999f' % 1.5 }}{{ '{:.999999999f}'.format(1.5) }}",
    "format map": "{{ '{a:>999999999}'.format_map({'a': 1}) }}",
    "many formats": "{% for i in range(99999) %}{{ '%9999d' % i }}{% endfor %}",
    "split into characters": _BIG
    + "{% for i in range(999) %}{{ s.split('a') | length }}{% endfor %}",
    "search again and again": _BIG
    + "{% for i in range(9999) %}{{ s.find('b' * 1000 ~ 'a') }}{% endfor %}",
    "quadratic search": _BIG + "{{ ('a' * 3000000).find('a' * 1500000 ~ 'b' ~ 'a' * 1400000) }}",
    "quadratic containment": _LIST + "{% for i in l %}{{ i in l }}{% endfor %}",
    "tags stripped": "{{ ('<' * 5000000) | striptags }}",
    "comments stripped": "{{ ('<!--' * 500000) | striptags }}",
    "escapes": "{% set n = namespace(s='&') %}{% for i in range(99) %}"
    "{% set n.s = n.s | forceescape %}{{ n.s }}{% endfor %}{{ ('&' * 9999999) | e | e | e }}",
    "file size": "{{ (10 ** 60) | filesizeformat }}{{ 'a' | filesizeformat }}",
    "title": "{{ ('a ' * 9999999) | title }}",
    "words counted": "{% for i in range(999) %}{{ ('a ' * 9999999) | wordcount }}{% endfor %}",
    "url encoded": "{{ ('\u20ac' * 9999999) | urlencode }}",
    # Lists
    "sort": _LIST + "{% for i in range(9999) %}{{ (l | sort(reverse=true))[0] }}{% endfor %}",
    "sort of long equal texts": "{% set n = namespace(l=[]) %}{% for i in range(999) %}"
    "{% set n.l = n.l + ['a' * 30000 ~ i] %}{% endfor %}{% for i in range(999) %}"
    "{{ (n.l | sort)[0] | length }}{% endfor %}",
    "unique": _LIST + "{% for i in range(9999) %}{{ l | unique | list | length }}{% endfor %}",
    "group by": _LIST + "{% for i in range(999) %}{{ l | groupby('real') | length }}{% endfor %}",
    "batches": "{{ range(99999) | batch(1) | list }}{{ [1] | batch(10 ** 9, 'x') | list }}",
    "slices": "{{ [1] | slice(10 ** 9, 'x') | list }}",
    "deep tojson": "{% set n = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set n.l = [n.l] %}{% endfor %}{{ n.l | tojson }}",
    "wide tojson": "{% set n = namespace(l=[1]) %}{% for i in range(60) %}"
    "{% set n.l = [n.l, n.l] %}{% endfor %}{{ n.l | tojson }}",
    "deep text of a list": "{% set n = namespace(l=[]) %}{% for i in range(99999) %}"
    "{% set n.l = [n.l] %}{% endfor %}{{ n.l }}",
    "compare deep lists": "{% set n = namespace(a=[], b=[]) %}{% for i in range(60) %}"
    "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}{{ n.a == n.b }}",
    "tojson with a wide indent": "{{ range(99999) | list | tojson(indent=9999) }}",
    "tojson with long separators": "{{ range(99999) | list "
    "| tojson(separators=['x' * 99999, ':']) }}",
    "map of map": "{{ range(99999) | map('string') | map('center', 9999) | join }}",
    "sum of texts": "{{ (['a' * 9999] * 9999) | sum(start='') }}",
    "sum of lists": "{{ ([[1] * 999] * 99999) | sum(start=[]) | length }}",
    "dictionaries": "{% for i in range(9999) %}{{ dict(range(99999) | batch(2)) | length }}"
    "{% endfor %}",
    "dictsort": "{% for i in range(99999) %}{{ dict(a=1, b=2) | dictsort }}"
    "{{ 'x' * 9999 }}{% endfor %}",
    "slicing": _BIG + "{% for i in range(99999) %}{{ s[::-1] | length }}{% endfor %}",
    # Getting out
    "subclasses": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "attribute filter": "{{ '' | attr('__class__') | attr('mro') }}",
    "map over attributes": "{{ [''] | map(attribute='__class__.__mro__') | list }}",
    "globals of a macro": "{% macro f() %}{% endmacro %}{{ f.__globals__ }}",
    "globals by format": "{{ '{0.__class__.__mro__}'.format('') }}",
    "generator frame": "{{ (messages | map('upper')).gi_frame.f_globals }}",
    "namespace class": "{{ namespace.__init__.__globals__ }}",
    "changed messages": "{{ messages.append(1) }}{{ messages[0].update({}) }}",
    "counter replaced": "{% set _headway_counted = cycler %}{% for i in range(99999) %}"
    "{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "context": "{{ self }}{{ self.__dict__ }}{{ caller }}{{ varargs }}",
    "include": "{% include '/etc/passwd' %}",
    "not unicode": "{{ '\\ud800' }}",
    # Compilation
    "constant folded": "{{ 'a' | center(9999) | replace('', 'b' * 9999) | length }}",
    "constant sums": "{{ " + " + ".join(["'a'"] * 5000) + " }}",
    "nested blocks": "{% if a %}" * _DEEP + "{% endif %}" * _DEEP,
    "nested parentheses": "{{ " + "(" * _DEEP + "1" + ")" * _DEEP + " }}",
    "nested lists": "{{ " + "[" * _DEEP + "]" * _DEEP + " }}",
    "nested negations": "{{ " + "not " * _DEEP + "1 }}",
    "nested signs": "{{ " + "-" * _DEEP + "1 }}",
    "nested calls": "{{ " + "f(" * _DEEP + ")" * _DEEP + " }}",
    "nested loops in syntax": "{% for i in [1] %}" * 200 + "{% endfor %}" * 200,
    "nested macros": "".join(f"{{% macro m{i}() %}}" for i in range(300)) + "{% endmacro %}" * 300,
    "many blocks": "".join(f"{{% block b{i} %}}x{{% endblock %}}" for i in range(500)),
    "many variables": "".join(f"{{% set v{i} = v{i - 1} %}}" for i in range(1, 900)),
    "many filters": "{{ 'a'" + " | trim" * _DEEP + " }}",
    "chain of attributes": "{{ a" + ".b" * _DEEP + " }}",
    "ten megabytes": "x" * 10_000_000,
    "ten megabytes of tags": "{{a}}" * 2_000_000,
    "an open comment": "{#" * 100_000,
    "an open string": "{{ '" + "\\'" * 100_000,
    "huge number": "{{ " + "9" * 200_000 + " }}",
    "spaces in a tag": "{% if a" + " " * 200_000 + "%}",
    "line breaks": "\n" * 200_000 + "{% for",
    "dashes": "{%-" * 50_000,
}
