"""A development server for SavedModels, which knows nothing of this package."""
