"""`python -m crm_analysis.reporting` is `crm-report`."""

from crm_analysis.reporting.cli import app

if __name__ == "__main__":
    app()
