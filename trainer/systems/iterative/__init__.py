"""A picture after every turn: its places listen to the turns, and change what was there before where they must."""
