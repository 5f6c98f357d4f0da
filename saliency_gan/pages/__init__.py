"""Self-contained HTML pages: sections, tables, charts and the template."""
