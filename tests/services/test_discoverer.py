"""All buckets of all accounts are found, and what fails keeps nothing else from being found."""

import asyncio
from itertools import pairwise

import pytest

from crrmon.domain.deployment.discovery import Discovery, UnreadAccount, UnreadBucket
from crrmon.ports.bucket_survey import ClosedRegionError, ListedTrail, SurveyError
from crrmon.services.deployment.discoverer import (
    BUCKETS_AT_ONCE,
    BUCKETS_PER_SECOND,
    Discoverer,
    Progress,
)
from fakes.bucket_survey import HOME, FakeSurvey

OTHER = "444455556666"
THIRD = "777788889999"
EVERYTHING = {
    "EventSelectors": [{"DataResources": [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]}]
}


@pytest.fixture
def survey() -> FakeSurvey:
    """Make two accounts with a bucket each, that replicate to each other."""
    survey = FakeSurvey()
    survey.identities[OTHER] = OTHER
    survey.bucket("here", "there")
    survey.bucket("there", "here", account=OTHER, region="us-east-1")
    return survey


async def discovered(survey: FakeSurvey, **more: object) -> Discovery:
    return await Discoverer(survey, **more).run()  # type: ignore[arg-type]


def names(discovery: Discovery) -> list[str]:
    return [bucket.name for bucket in discovery.buckets]


async def test_all_accounts_are_searched(survey: FakeSurvey) -> None:
    """That of the credentials at hand, and each of the configuration."""
    found = await discovered(survey)

    assert names(found) == ["here", "there"]
    assert [bucket.destinations for bucket in found.buckets] == [("there",), ("here",)]
    assert found.complete


async def test_an_account_under_two_names_is_searched_once(survey: FakeSurvey) -> None:
    """The configuration may name the account of the credentials at hand, which give way to it; and one account twice."""
    survey.identities[HOME] = HOME
    survey.identities["acme-prod"] = OTHER

    assert names(await discovered(survey)) == ["here", "there"]
    assert survey.read_as == {"here": HOME, "there": OTHER}


async def test_an_account_that_cannot_be_entered_leaves_the_others(survey: FakeSurvey) -> None:
    """One role of several is refused: one line, and all other accounts are read."""
    survey.identities[THIRD] = THIRD
    survey.broken[OTHER] = SurveyError("AccessDenied; allow sts:AssumeRole")
    survey.bucket("more", account=THIRD)

    found = await discovered(survey)

    assert names(found) == ["here", "more"]
    assert found.unread_accounts == (
        UnreadAccount(account=OTHER, reason="AccessDenied; allow sts:AssumeRole"),
    )
    assert not found.complete


async def test_the_own_account_may_be_the_one_that_cannot_be_entered(survey: FakeSurvey) -> None:
    """Nobody knows its number then."""
    survey.broken[""] = SurveyError("no credentials")

    found = await discovered(survey)

    assert names(found) == ["there"]
    assert found.unread_accounts == (UnreadAccount(account="", reason="no credentials"),)


async def test_credentials_of_another_account_than_is_said_are_not_used(
    survey: FakeSurvey,
) -> None:
    """A profile that belongs to another account would search that one in its name."""
    survey.identities[OTHER] = THIRD
    survey.bucket("wrong", account=THIRD)

    found = await discovered(survey)

    assert names(found) == ["here"]
    (unread,) = found.unread_accounts
    assert unread.account == OTHER
    assert f"are those of account {THIRD}" in unread.reason
    assert "accounts[].profile" in unread.reason


async def test_an_account_whose_buckets_cannot_be_listed_leaves_the_others(
    survey: FakeSurvey,
) -> None:
    """One line with its number."""
    survey.broken[f"list {OTHER}"] = SurveyError("grant s3:ListAllMyBuckets")

    found = await discovered(survey)

    assert names(found) == ["here"]
    assert found.unread_accounts == (
        UnreadAccount(account=OTHER, reason="grant s3:ListAllMyBuckets"),
    )


async def test_a_bucket_that_cannot_be_read_leaves_the_others(survey: FakeSurvey) -> None:
    """One line with its name and account; as a destination it is not taken for somebody else's."""
    survey.bucket("other", account=OTHER)
    survey.broken["there"] = SurveyError("grant s3:GetReplicationConfiguration")

    found = await discovered(survey)

    assert names(found) == ["here", "other"]
    reason = "grant s3:GetReplicationConfiguration"
    assert found.unread == (UnreadBucket(name="there", account=OTHER, reason=reason),)
    assert [one.reason for one in found.destinations()] == [reason]


async def test_a_bucket_deleted_since_it_was_listed_is_not_there(survey: FakeSurvey) -> None:
    """That is no failure."""
    survey.gone.add("there")

    found = await discovered(survey)

    assert names(found) == ["here"]
    assert found.complete


@pytest.mark.parametrize("by_its_trails", [True, False])
async def test_a_region_that_is_closed_is_one_line(
    survey: FakeSurvey, *, by_its_trails: bool
) -> None:
    """Whether its trails or a bucket show it: then no more of its buckets are asked for, and other regions go on."""
    far = [f"far-{number}" for number in range(100)]
    for name in far:
        survey.bucket(name, region="af-south-1")
    for shows in [f"{HOME} af-south-1"] if by_its_trails else far:
        survey.broken[shows] = ClosedRegionError("OptInRequired; enable it")

    found = await discovered(survey)

    assert names(found) == ["here", "there"]
    assert found.unread_accounts == (
        UnreadAccount(account=HOME, region="af-south-1", reason="OptInRequired; enable it"),
    )
    assert {bucket.reason for bucket in found.unread} == {
        "nothing in region af-south-1 can be read"
    }
    assert len(found.unread) == 100
    assert len(survey.began) <= 2 + BUCKETS_AT_ONCE


async def test_excluded_regions_are_not_asked_for(survey: FakeSurvey) -> None:
    """Neither their buckets nor their trails."""
    survey.bucket("far", region="af-south-1")
    survey.broken[f"{HOME} af-south-1"] = ClosedRegionError("closed")

    found = await discovered(survey, exclude_regions=["af-south-1"])

    assert names(found) == ["here", "there"]
    assert found.complete


async def test_trails_that_record_a_bucket_are_told(survey: FakeSurvey) -> None:
    """Those that are on and record its writes; one of all regions is read once."""
    survey.bucket("far", region="us-east-1")
    every, other, off, plain = (f"arn:aws:cloudtrail:eu-west-1:{HOME}:trail/{n}" for n in "abcd")
    trails = {arn: ListedTrail(arn=arn, home_region="eu-west-1") for arn in (every, other, off)}
    management = ListedTrail(arn=plain, home_region="eu-west-1", only_management=True)
    survey.region_trails[HOME, "eu-west-1"] = [*trails.values(), management]
    survey.region_trails[HOME, "us-east-1"] = [trails[every]]
    selector = {"Type": "AWS::S3::Object", "Values": ["arn:aws:s3:::far/"]}
    survey.selectors = {
        every: EVERYTHING,
        other: {"EventSelectors": [{"DataResources": [selector]}]},
        off: None,
    }

    found = {bucket.name: bucket.trails for bucket in (await discovered(survey)).buckets}

    # The second one is not there for the region that the bucket is in.
    assert found == {"here": (every,), "far": (every,), "there": ()}
    assert sorted(survey.asked) == [every, other, off]


async def test_trails_that_are_not_known_are_gaps(survey: FakeSurvey) -> None:
    """Buckets count as read without them: whether to list them or to read one was denied."""
    arn = f"arn:aws:cloudtrail:eu-west-1:{HOME}:trail/t"
    survey.region_trails[HOME, "eu-west-1"] = [ListedTrail(arn=arn, home_region="eu-west-1")]
    survey.broken[arn] = SurveyError("grant cloudtrail:GetEventSelectors")
    survey.broken[f"{OTHER} us-east-1"] = SurveyError("grant cloudtrail:DescribeTrails")

    found = await discovered(survey)

    assert found.complete
    here, there = found.buckets
    assert here.gaps == (
        f"whether trail {arn} records it is not known: grant cloudtrail:GetEventSelectors",
    )
    assert there.gaps == ("its trails are not known: grant cloudtrail:DescribeTrails",)


async def test_s3_is_not_asked_faster_than_it_bears() -> None:
    """In each account so many buckets a second, and so many at once; accounts do not wait for each other."""
    survey = FakeSurvey(seconds=0.5)
    survey.identities[OTHER] = OTHER
    for account in (HOME, OTHER):
        for number in range(200):
            survey.bucket(f"{account}-{number}", account=account)

    await discovered(survey)

    took = asyncio.get_running_loop().time()
    assert len(survey.began) == 400
    assert survey.most_at_once == 2 * BUCKETS_AT_ONCE
    # 12 at once of half a second each are fewer than 50 a second.
    assert took == pytest.approx(200 / BUCKETS_AT_ONCE * 0.5, rel=0.1)


async def test_fast_answers_are_spaced() -> None:
    """However fast S3 answers, calls do not come faster than the pace."""
    survey = FakeSurvey(seconds=0.0)
    for number in range(100):
        survey.bucket(f"b-{number}")

    await discovered(survey)

    gaps = [later - earlier for earlier, later in pairwise(survey.began)]
    assert min(gaps) == pytest.approx(1 / BUCKETS_PER_SECOND)


async def test_progress_is_told(survey: FakeSurvey) -> None:
    """It only grows, and ends with everything."""
    survey.bucket("gone")
    survey.gone.add("gone")
    survey.broken["there"] = SurveyError("no")
    told: list[Progress] = []

    await discovered(survey, told=told.append)

    assert told[-1] == Progress(accounts=2, accounts_listed=2, buckets=3, buckets_read=3)
    for field in ("accounts_listed", "buckets", "buckets_read"):
        values = [getattr(one, field) for one in told]
        assert values == sorted(values)
