"""Makes what is delivered beside the program and must agree with it: alerts, dashboards, the chart's schema and page."""
