"""The verifier and python-tuf, held against each other on many generated repositories.

histories      a repository over time, seeded: keys, delegations, dates, versions
mutations      what an attacker, a bug or a bad line makes of its files
cases          sessions of one client with it, and how a case is cut down to what matters
judges         both clients, each with the state that it keeps between sessions
differences    the numbered list, each difference as a change to python-tuf that makes it judge as the verifier does
runner         many cases, and what they covered; `python -m differ.runner --help`
"""
