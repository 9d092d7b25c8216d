"""CloudFormation's templates of what a deployment makes, and the rules that all of them keep."""
