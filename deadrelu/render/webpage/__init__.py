"""The pieces of the HTML page, each from a report to markup."""
