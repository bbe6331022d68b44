//! The planner of all deployments of a gateway.

use std::collections::BTreeMap;
use std::time::Duration;

use lamplighter_contracts::devices::VOUCHED_JUMP_MAX;
use lamplighter_types::limits::TEXT_BYTES_MAX;
use lamplighter_types::{DeploymentReport, DeploymentState, Hash, Id};

use super::documents::PendingDocuments;
use super::floors::Floors;
use super::holding::{Hold, InstallWindows};
use super::job::DeploymentJob;
use crate::south::{SouthCommand, WorkNotice};
use crate::spool::OutgoingReport;
use crate::text::sanitize;
use crate::verify::Assignment;

use DeploymentState::*;

/// IO that a step needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send a report to the ledger.
    Report(Box<OutgoingReport>),
    /// Fetch the artifact, or check the one in the cache. Answered by
    /// [`DeploymentPlanner::artifact_fetched`].
    FetchArtifact {
        device: Id,
        digest: Hash,
        size_bytes: u64,
    },
    /// Send a command to the Thing.
    Command(SouthCommand),
    /// Ask the node to prove the open work again: what is to be done was proven too long ago.
    ProveAgain,
    /// Fetch the changes of the validators that a Thing needs, and send them to it.
    FetchChanges {
        device: Id,
        /// Height of the validators that it trusts.
        trusted: u64,
    },
}

/// Greatest age of the proof of an order when it is given: the default of the configuration.
const RECORD_AGE_MAX: Duration = Duration::from_secs(300);

/// The deployments and pending documents of all devices of a gateway.
#[derive(Debug)]
pub struct DeploymentPlanner {
    jobs: BTreeMap<Id, DeploymentJob>,
    /// True for each registered Thing that has our agent.
    pub(super) agents: BTreeMap<Id, bool>,
    pub(super) documents: PendingDocuments,
    /// Heights of the newest proven states of the devices' deployments.
    floors: Floors,
    /// Counters of the reports that the gateway makes for Things.
    counters: BTreeMap<Id, u64>,
    /// Height of the newest certified header.
    seen_height: u64,
    /// Greatest age of the proof of an order when it is given.
    pub(super) record_age_max: Duration,
    windows: InstallWindows,
}

impl Default for DeploymentPlanner {
    fn default() -> Self {
        Self::new(RECORD_AGE_MAX, 0)
    }
}

impl DeploymentPlanner {
    /// A planner without work, which gives no order whose proof is older than `record_age_max`. The
    /// newest certified header so far is at `seen_height`.
    pub fn new(record_age_max: Duration, seen_height: u64) -> Self {
        Self {
            jobs: BTreeMap::new(),
            agents: BTreeMap::new(),
            documents: PendingDocuments::default(),
            floors: Floors::default(),
            counters: BTreeMap::new(),
            seen_height,
            record_age_max,
            windows: InstallWindows::default(),
        }
    }

    /// The artifacts that must stay in the cache.
    pub fn artifacts(&self) -> Vec<Hash> {
        let jobs = self.jobs.values();
        jobs.map(|job| job.assignment().manifest.artifact).collect()
    }

    /// True if no deployment is open.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The deployment of a device, if it is the one of this rollout.
    fn job(&mut self, rollout: &Id, device: &Id) -> Option<&mut DeploymentJob> {
        let job = self.jobs.get_mut(device);
        job.filter(|job| job.assignment().deployment.rollout == *rollout)
    }

    /// Takes note of the height of a certified header.
    pub fn observe_height(&mut self, height: u64) {
        self.seen_height = self.seen_height.max(height);
    }

    /// Takes up a proven assignment. `queued` is the last state in the spool of the same
    /// deployment.
    pub fn assigned(
        &mut self,
        assignment: Assignment,
        queued: Option<DeploymentState>,
        now_ms: u64,
    ) -> Vec<Effect> {
        let device = assignment.device.device.clone();
        if !self.floors.raise(&device, assignment.height) {
            return Vec::new();
        }
        self.observe_height(assignment.head_height);
        let counter = self.counters.entry(device.clone()).or_default();
        let reported = assignment.report_counter;
        // A counter that the ledger would refuse as too far was reset there since.
        *counter = if *counter > reported.max(now_ms).saturating_add(VOUCHED_JUMP_MAX) {
            reported
        } else {
            (*counter).max(reported)
        };
        let mut effects = Vec::new();
        let rollout = assignment.deployment.rollout.clone();
        if let Some(job) = self.job(&rollout, &device) {
            job.update(assignment, queued);
        } else {
            let job = DeploymentJob::new(assignment, queued);
            let replaced = self.jobs.insert(device.clone(), job);
            effects.extend(replaced.and_then(|job| job.cancel_if_started()));
        }
        effects.extend(self.next_step(&device, now_ms));
        effects
    }

    /// Ends a deployment that is proven to have ended on the ledger.
    pub fn ended(&mut self, rollout: &Id, device: &Id, height: u64) -> Vec<Effect> {
        if !self.floors.raise(device, height) {
            return Vec::new();
        }
        let Some(job) = self.job(rollout, device) else {
            return Vec::new();
        };
        let effect = job.cancel_if_started();
        self.jobs.remove(device);
        effect.into_iter().collect()
    }

    /// Forgets a device that is no longer this gateway's: its Thing shall register elsewhere, where
    /// its work continues.
    pub fn device_removed(&mut self, device: &Id) -> Vec<Effect> {
        self.documents.remove(device);
        self.agents.remove(device);
        self.jobs.remove(device);
        // The next assignment proves the ledger's counter, and the clock is above it.
        self.counters.remove(device);
        let endpoint = device.to_string();
        vec![Effect::Command(SouthCommand::Release { endpoint })]
    }

    /// Continues after a fetch: the artifact is in the cache with the right bytes, or it is not
    /// available now.
    pub fn artifact_fetched(
        &mut self,
        device: &Id,
        digest: &Hash,
        available: bool,
        now_ms: u64,
    ) -> Vec<Effect> {
        let job = self.jobs.get_mut(device);
        let Some(job) = job.filter(|job| job.assignment().manifest.artifact == *digest) else {
            return Vec::new();
        };
        if !job.artifact_fetched(available, now_ms) {
            return Vec::new();
        }
        self.next_step(device, now_ms)
    }

    /// Takes note that the south has lost its commands for a Thing; the Thing gets them again.
    pub fn commands_lost(&mut self, device: &Id) {
        if let Some(job) = self.jobs.get_mut(device) {
            job.command_lost();
        }
    }

    /// Takes up the registration of a Thing. Anybody can register in its name and swallow a
    /// command: the command is sent again as long as the ledger's state asks for it.
    pub fn thing_registered(&mut self, device: &Id, agent: bool, now_ms: u64) -> Vec<Effect> {
        if let Some(job) = self.jobs.get_mut(device) {
            job.thing_registered();
        }
        self.agents.insert(device.clone(), agent);
        self.documents.clear_sent(device);
        let mut effects = self.configure(device, now_ms);
        effects.extend(self.next_step(device, now_ms));
        effects
    }

    /// Continues after the south found that an order waited too long for the Thing, or after the
    /// Thing found its proof outdated: it is given again once it is proven to be in force still.
    fn order_expired(
        &mut self,
        device: &Id,
        deployment: &str,
        is_outdated: bool,
        now_ms: u64,
    ) -> Vec<Effect> {
        if deployment.is_empty() {
            match is_outdated {
                true => self.documents.outdated(device, now_ms),
                false => self.documents.clear_sent(device),
            }
            return self.configure(device, now_ms);
        }
        let job = self.jobs.get_mut(device);
        match job.filter(|job| job.is_named(deployment)) {
            Some(job) if is_outdated => job.outdated(now_ms),
            Some(job) => job.command_lost(),
            None => {}
        }
        self.next_step(device, now_ms)
    }

    /// Takes note that a report of a Thing is in the spool.
    pub fn report_stored(&mut self, report: &DeploymentReport) {
        if let Some(job) = self.job(&report.rollout, &report.device) {
            job.report_queued(report.to);
        }
    }

    /// Continues after the ledger accepted or rejected a report, in the block at `height`.
    pub fn report_resolved(
        &mut self,
        outgoing: &OutgoingReport,
        rejected: bool,
        height: u64,
        now_ms: u64,
    ) -> Vec<Effect> {
        match outgoing {
            OutgoingReport::Deployment(report) => {
                self.step_resolved(report, rejected, height, now_ms)
            }
            OutgoingReport::Config(report) => {
                self.documents.report_resolved(report, rejected, height);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn step_resolved(
        &mut self,
        report: &DeploymentReport,
        rejected: bool,
        height: u64,
        now_ms: u64,
    ) -> Vec<Effect> {
        let Some(job) = self.job(&report.rollout, &report.device) else {
            return Vec::new();
        };
        if !job.report_resolved(report.to, rejected, now_ms) {
            return Vec::new();
        }
        self.floors.raise(&report.device, height);
        if report.to.is_end() {
            // The Thing itself reported the end: there is nothing to cancel.
            self.jobs.remove(&report.device);
            return Vec::new();
        }
        self.next_step(&report.device, now_ms)
    }

    /// The next step of a device's deployment, if it is the gateway's to make.
    pub fn next_step(&mut self, device: &Id, now_ms: u64) -> Vec<Effect> {
        let vouched = self.vouches_for(device);
        let (seen_height, age_max) = (self.seen_height, self.record_age_max);
        let Some(job) = self.jobs.get_mut(device) else {
            return Vec::new();
        };
        if job.is_waiting(now_ms) {
            return Vec::new();
        }
        let state = job.state();
        let is_order =
            matches!(state, Downloading | Downloaded | WaitingWindow) && job.lacks_command();
        let open_for = match state {
            Downloaded | WaitingWindow if is_order => match self.windows.hold(job, now_ms) {
                Hold::Open(open_for) => open_for,
                Hold::Closed(None) => return Vec::new(),
                Hold::Closed(Some((seconds, detail))) => {
                    return self.report(device, WaitingWindow, seconds, &detail, now_ms);
                }
            },
            _ => None,
        };
        if is_order && !job.is_fresh(now_ms, age_max) {
            return vec![Effect::ProveAgain];
        }
        match state {
            Assigned => self.report(device, Offered, 0, "", now_ms),
            Offered if job.has_artifact() => self.report(device, Downloading, 0, "", now_ms),
            Offered | Downloading if !job.has_artifact() => job.fetch_artifact(),
            Downloading | Downloaded | WaitingWindow | Postponed => {
                job.next_command(seen_height, open_for)
            }
            Installing | Staged | Trial if vouched => job.next_command(seen_height, None),
            _ => Vec::new(),
        }
    }

    /// True if the gateway reports for the Thing: the device has no key, and the Thing registered
    /// without our agent. For a device with a key a registration proves nothing, since it is not
    /// signed.
    pub(super) fn vouches_for(&self, device: &Id) -> bool {
        let has_key = |job: &DeploymentJob| job.assignment().device.key.is_some();
        let foreign = self.agents.get(device) == Some(&false);
        foreign && !self.jobs.get(device).is_some_and(has_key)
    }

    /// Continues every deployment and document whose pause has ended.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        let mut devices = Vec::new();
        for (device, job) in &mut self.jobs {
            if job.pause_ends(now_ms) {
                devices.push(device.clone());
            }
        }
        let mut effects = Vec::new();
        for device in &devices {
            effects.extend(self.next_step(device, now_ms));
        }
        for device in self.documents.paused_until(now_ms) {
            effects.extend(self.configure(&device, now_ms));
        }
        effects
    }

    /// The last state of a device's deployment that was reported.
    pub(super) fn reported_state(&self, device: &Id) -> Option<DeploymentState> {
        self.jobs.get(device).map(DeploymentJob::reported_state)
    }

    /// True if this is the deployment of a device that the south names.
    pub(super) fn is_current(&self, device: &Id, deployment: &str) -> bool {
        let job = self.jobs.get(device);
        job.is_some_and(|job| job.is_named(deployment))
    }

    /// A report that the gateway makes itself, without the Thing's signature.
    pub(super) fn report(
        &mut self,
        device: &Id,
        to: DeploymentState,
        code: u32,
        detail: &str,
        now_ms: u64,
    ) -> Vec<Effect> {
        let counter = self.next_counter(device, now_ms);
        let seen_height = self.seen_height;
        let Some(job) = self.jobs.get_mut(device) else {
            return Vec::new();
        };
        let Assignment {
            deployment,
            manifest,
            ..
        } = job.assignment();
        let has_artifact = matches!(to, Downloaded | Trial | Confirmed);
        let report = DeploymentReport {
            rollout: deployment.rollout.clone(),
            device: device.clone(),
            from: job.reported_state(),
            to,
            code,
            digest: has_artifact.then_some(manifest.artifact),
            seen_height,
            counter,
            detail: sanitize(detail, TEXT_BYTES_MAX),
            signature: None,
        };
        job.report_queued(to);
        vec![Effect::Report(Box::new(OutgoingReport::Deployment(report)))]
    }

    /// A counter above all that the ledger or this gateway has used. The clock keeps it above them
    /// over restarts too.
    pub(super) fn next_counter(&mut self, device: &Id, now_ms: u64) -> u64 {
        let counter = self.counters.entry(device.clone()).or_default();
        *counter = (*counter + 1).max(now_ms);
        *counter
    }

    /// Continues after a notice of the south about the work on a Thing.
    pub fn on_notice(&mut self, device: &Id, notice: &WorkNotice, now_ms: u64) -> Vec<Effect> {
        match notice {
            WorkNotice::Progress { .. } | WorkNotice::Inspected { .. } => {}
            // The Thing's agent itself reports whether it applied the document.
            WorkNotice::Configured { accepted, detail } => {
                tracing::debug!(%device, accepted, detail, "a configuration was handed over");
            }
            WorkNotice::Applied {
                document,
                applied,
                detail,
            } => {
                let result = (*document, *applied, detail.as_str());
                return self.values_applied(device, result, now_ms);
            }
            WorkNotice::Refused { deployment, reason } => {
                tracing::warn!(%device, deployment, reason, "the south refused");
                if deployment.is_empty() {
                    // It was a document, which is sent again with the node's next reminder.
                    self.documents.clear_sent(device);
                }
                self.command_refused(device, deployment, now_ms);
            }
            WorkNotice::Busy { deployment } => self.command_refused(device, deployment, now_ms),
            WorkNotice::Locked { deployment, busy_s } => {
                return self.thing_is_busy(device, deployment, *busy_s, now_ms);
            }
            WorkNotice::Expired { deployment } => {
                return self.order_expired(device, deployment, false, now_ms);
            }
            WorkNotice::Outdated { deployment } => {
                return self.order_expired(device, deployment, true, now_ms);
            }
            WorkNotice::ChangesNeeded { trusted } => {
                let (device, trusted) = (device.clone(), *trusted);
                return vec![Effect::FetchChanges { device, trusted }];
            }
            WorkNotice::Stage {
                deployment,
                stage,
                detail,
            } => {
                if self.is_current(device, deployment) {
                    return self.on_stage(device, *stage, detail, now_ms);
                }
            }
        }
        Vec::new()
    }

    fn command_refused(&mut self, device: &Id, deployment: &str, now_ms: u64) {
        let job = self.jobs.get_mut(device);
        if let Some(job) = job.filter(|job| job.is_named(deployment)) {
            job.command_refused(now_ms);
        }
    }
}
