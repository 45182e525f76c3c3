"""Users' reward functions in processes of their own.

    the run    client.py       sends calls, waits, explains what went wrong
      |
    supervisor.py              one for each function: watches memory and the run, ends the worker and its children
      |
    worker.py                  loads the function and calls it

`frames.py` is how the run and the worker talk, `tree.py` what the supervisor reads of its descendants. Supervisor and
worker import nothing heavy: the start takes a fraction of a second.
"""
