"""The tests, a folder a room as in the project; what several of them need lies in `tests.support`."""
