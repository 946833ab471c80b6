"""Run folders → tables, files and pages. Numbers that do not compare are not put in one column."""
