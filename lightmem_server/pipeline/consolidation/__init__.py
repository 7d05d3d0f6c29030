"""Offline consolidation: from turns to summaries and facts that code can tie to them."""
