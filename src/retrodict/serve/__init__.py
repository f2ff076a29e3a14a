"""Pages in the browser: a server for this machine alone, and what it shows."""
