"""Tables as they come: files, cells, kinds of column, and their preprocessing."""
