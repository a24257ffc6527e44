"""A picture after every turn: its places listen to the turns, and the whole picture is painted again."""
