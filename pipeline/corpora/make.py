"""A split's corpus made from raw files, with a report of what was lacking and what looked odd."""
