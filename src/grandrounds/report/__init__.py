"""Results for human readers: tables and cases in the terminal, and a self-contained HTML page."""
