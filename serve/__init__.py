"""The dashboard. In: KPI topics and their schemas. Out: live charts in a browser."""
