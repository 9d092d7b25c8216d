"""AWS as whoever deploys sees it: by boto3, with the credentials of a person, outside the daemon."""
