"""The real-time half of m2m-live: from EMG samples and TMS pulses to cortical maps.

The core (`engine`, and what it is made of) is deterministic and owns no thread, socket or clock; `edges` holds
what touches the world; `session` joins the two. Nothing here imports `trainer`, `drivers` or `tools`.
"""
