"""What whoever deploys does at AWS, over ports and domain only."""
