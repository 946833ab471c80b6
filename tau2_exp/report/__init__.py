"""Run folders → tables, files and pages. Numbers that do not compare are not put in one column."""

from __future__ import annotations

from tau2_exp.report.tables import evaluation_table, pipeline_table

__all__ = ["evaluation_table", "pipeline_table"]
