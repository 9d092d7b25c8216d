"""What was counted, to CloudWatch and to Prometheus."""
