"""The short way to AWS for the calls that are made all day; see docs/aws-client.md for when it is taken."""
