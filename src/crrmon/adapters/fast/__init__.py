"""The fast client, for the calls of AWS that are made all day; docs/aws-client.md says when it is used."""
