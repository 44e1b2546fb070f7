"""The scikit-learn interface, and saved detectors."""
