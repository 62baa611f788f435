"""What each release has written and said, kept so that every later one can be held to it.

`make released` records the present release: a journal, a catalogue of the archive, and a transcript of calls, each with
what it tells, and the commit that did so. tests/contract/test_recorded_releases.py replays all of them.
"""
