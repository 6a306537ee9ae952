"""Find out why a vendor's table differs from the local one.

A *cause* is a setting or a data fault that may explain differences (`causes`). The *search* recomputes the local table
under causes, first alone and then combined, and keeps those under which more cells agree (`search`). `termina` and
`adapty` recompute their tables under causes and propose *candidates*: other settings, and the data faults that the
differences point to. `explain` is the public call, `explanation` its result, `zones` lists the distinct time zones.
"""
