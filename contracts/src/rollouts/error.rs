use lamplighter_types::{DeploymentState, GroupStatus, Hash, Id, RolloutStatus, Scope};

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the rollouts contract refuses an action.
    pub enum RolloutsError [Field(FieldError)] {
        Percent(percent: u8) = "rollouts.percent",
            "a share is 0 to 100 percent, not {percent}";
        Duration { field: &'static str, got: u64 } = "rollouts.duration",
            "{field} is 1 to 31622400000 ms, not {got}";
        TooManyDistricts = "rollouts.too_many_districts",
            "the devices lie in more than 32 districts: name them by a filter";
        Exists(rollout: Id) = "rollouts.exists",
            "there is a rollout {rollout} already";
        Unknown(rollout: Id) = "rollouts.unknown_rollout",
            "there is no rollout {rollout}";
        UnknownDevice(device: Id) = "rollouts.unknown_device",
            "there is no device {device}";
        Status(status: RolloutStatus) = "rollouts.status",
            "the rollout is {status}, so this can't be done now";
        SelfApproval(account: Id) = "rollouts.own_plan",
            "{account} planned the rollout, so it can't approve it";
        Approved(account: Id) = "rollouts.approved",
            "{account} has approved this plan already";
        OtherPlan { planned: Hash, looked_at: Hash } = "rollouts.other_plan",
            "the plan is {planned}, not {looked_at}";
        NotApprovedAgain { got: usize, wanted: usize } = "rollouts.not_approved_again",
            "too much failed: the plan has {got} new approvals of the {wanted} that resuming takes";
        NotApproved { got: usize, wanted: usize } = "rollouts.not_approved",
            "the plan has {got} approvals that count now, and needs {wanted}";
        TooManyApprovals = "rollouts.too_many_approvals",
            "the plan has the most approvals that are kept";
        NoApproval(account: Id) = "rollouts.no_approval",
            "{account} has not approved this plan";
        Lapsed(rollout: Id) = "rollouts.lapsed",
            "the plan {rollout} was not started in time";
        TooManyOpen(organization: Id) = "rollouts.too_many_open",
            "{organization} has 16 plans that were not started, which is the most";
        TooManyOfCity = "rollouts.too_many_of_city",
            "32 rollouts of the whole city are at work, which is the most";
        TooManyOfDistricts = "rollouts.too_many_of_districts",
            "48 rollouts of districts are at work, which is the most";
        TooManyOfDistrict(district: Scope) = "rollouts.too_many_of_district",
            "8 rollouts in {district} are at work, which is the most";
        TooMany = "rollouts.too_many",
            "64 rollouts are at work, which is the most";
        UnknownDeployment { rollout: Id, device: Id } = "rollouts.unknown_deployment",
            "the device {device} has no part in the rollout {rollout}";
        TooLate(state: DeploymentState) = "rollouts.too_late",
            "it is too late: the deployment is {state}";
        NotOffered(state: DeploymentState) = "rollouts.not_offered",
            "the deployment is {state} and has not been offered, so there is nothing to put off";
        NotPostponed(state: DeploymentState) = "rollouts.not_postponed",
            "the deployment is {state}, not postponed";
        Critical = "rollouts.critical",
            "a critical release can't be postponed";
        PostponedTooOften(times: u32) = "rollouts.postponed_too_often",
            "it was postponed {times} times, which is the most";
        PostponedTooLong { until_ms: u64, latest_ms: u64 } = "rollouts.postponed_too_long",
            "it can be put off to a time after now and until {latest_ms}, not to {until_ms}";
        NotGateway(account: Id) = "rollouts.not_gateway",
            "{account} is not a gateway";
        Unsigned(state: DeploymentState) = "rollouts.unsigned",
            "{state} must be signed by the Thing itself, which has a key";
        FutureHeight(height: u64) = "rollouts.future_height",
            "nobody can have seen the height {height} yet";
        Stale { claimed: DeploymentState, current: DeploymentState } = "rollouts.stale",
            "the deployment is {current}, not {claimed}";
        Transition { from: DeploymentState, to: DeploymentState } = "rollouts.transition",
            "{to} can't follow {from}";
        Digest(artifact: Hash) = "rollouts.digest",
            "the digest does not fit: the release's artifact is {artifact}";
        Group { group: usize, problem: &'static str } = "rollouts.group",
            "group {group}: {problem}";
        Shares(percent: u32) = "rollouts.shares",
            "the shares of the groups are {percent} percent together";
        TooManyNamed(devices: usize) = "rollouts.too_many_named",
            "the groups name {devices} devices one by one, and may name 1000";
        NamedOutside(device: Id) = "rollouts.named_outside",
            "{device} is in a group, but not among the devices of the rollout";
        ContinuousList = "rollouts.continuous_list",
            "a continuous rollout selects its devices by a filter";
        TooManyContinuous = "rollouts.too_many_continuous",
            "8 continuous rollouts are at work, which is the most";
        StopPassed(stop_ms: u64) = "rollouts.stop_passed",
            "the stop deadline {stop_ms} has passed";
        NoGroups(rollout: Id) = "rollouts.no_groups",
            "the rollout {rollout} has no groups";
        NotNext(group: u32) = "rollouts.not_next",
            "the group with the index {group} is not the next one to open";
        Gate(status: GroupStatus) = "rollouts.gate",
            "the group that opened last is {status}, not ready: the next one stays closed";
        GroupFailed(group: usize) = "rollouts.group_failed",
            "group {group} ended below its gate, so the next one never opens: cancel the rollout";
        TooManyWindows(windows: usize) = "rollouts.too_many_windows",
            "a plan has at most 8 windows, not {windows}";
        Window { window: usize, problem: &'static str } = "rollouts.window",
            "window {window}: {problem}";
        ConsentTwice = "rollouts.consent_twice",
            "each kind of consent is named once";
        NoConsentAsked(rollout: Id) = "rollouts.no_consent_asked",
            "the plan of {rollout} asks nobody for consent";
        NotAsked(account: Id) = "rollouts.not_asked",
            "{account} is not among those who are asked for consent to this installation";
        ConsentTime { until_ms: u64, latest_ms: u64 } = "rollouts.consent_time",
            "a consent lasts to a time after now and until {latest_ms}, not to {until_ms}";
        NoConsent = "rollouts.no_consent",
            "there is no consent to withdraw";
    }
}
