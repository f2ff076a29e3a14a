"""The report: one HTML file, or one plain-text table, made from one JSON result."""
