"""`crrmon deploy`: what is to stand at AWS so that events reach the daemon."""

from typing import Annotated

import typer

from crrmon.cli.commands.options import ConfigFile, Output

app = typer.Typer(help="Set up at AWS what brings events to the daemon.", no_args_is_help=True)


@app.callback()
def _deploy() -> None:
    # With a single command, typer would take its name away.
    pass


@app.command()
def discover(
    *,
    exclude_region: Annotated[
        list[str] | None,
        typer.Option(metavar="REGION", help="Leave the buckets of a region out; may be repeated."),
    ] = None,
    config: ConfigFile = None,
    output: Output = "table",
) -> None:
    """List the buckets that replicate, whereto, and what tells of them today.

    Searches the account of the credentials at hand, and each of `accounts`
    in the configuration, with its role or profile, in all regions. "*" is
    no account that can be searched, nor is an S3-compatible store. Nothing
    is changed. The table has the buckets that replicate, the JSON all.

    "told by" says who learns of an object today: the queues, topics and
    functions of the bucket's notifications, EventBridge where its switch is
    on, and the trails that record what is written, or a part of it.

    Needs the permissions s3:ListAllMyBuckets, s3:GetReplicationConfiguration
    and s3:GetBucketNotification in each account; for the trails also
    cloudtrail:DescribeTrails, cloudtrail:GetTrailStatus and
    cloudtrail:GetEventSelectors; and sts:AssumeRole on the roles.

    What cannot be read is listed with its reason, and the rest goes on.

    Exit codes: 0 all was read, 1 something could not be read, 2 wrong
    usage or configuration, 130 interrupted.
    """
    from crrmon.cli.deploy.discover import discover

    discover(config, output, exclude_regions=exclude_region or ())
