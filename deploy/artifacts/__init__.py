"""Makes what is delivered beside the program and must agree with it: dashboards, the chart's schema and page."""
