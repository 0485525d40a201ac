"""The live window: a process of its own that subscribes to a running engine and draws; it sends nothing.

Qt is imported in this package only, and only by the modules that paint: `subscriber`, `state`, `received`, `words`,
`scales`, `projection` and `surface` know nothing of it.
"""
