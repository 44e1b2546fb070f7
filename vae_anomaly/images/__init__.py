"""Images as they come: files, folders, and their preprocessing."""
