"""The page that a person opens before using a version, and its short forms for other places."""

from augment.report.markdown import gate_table_markdown, summary_markdown, worth_markdown
from augment.report.page import write_report

__all__ = ["gate_table_markdown", "summary_markdown", "worth_markdown", "write_report"]
