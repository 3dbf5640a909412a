"""Every Celery task, under ten lines each. They carry ids only and are safe to run twice."""
