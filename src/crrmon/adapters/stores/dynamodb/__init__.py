"""One DynamoDB table, for several replicas, with nothing to run."""
