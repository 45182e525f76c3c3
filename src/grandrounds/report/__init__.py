"""Results for human readers: tables and cases in the terminal, and a page that stands by itself."""
