//! What the gateway does for each of its devices: from a proven assignment to the end of the
//! deployment. No IO: inputs come in, [`Effect`]s go out.
//!
//! The ledger is the queue: nothing here is kept over a restart. The node tells all open work
//! again, the spool says what is still on its way, the artifact is in the cache, and the Thing says
//! how much of it it holds.
//!
//! | state on the ledger | what is done |
//! |---|---|
//! | assigned | the gateway reports `offered` |
//! | offered | the artifact is fetched and checked; then the gateway reports `downloading` |
//! | downloading | the package goes to the Thing; the Thing reports `downloaded`, signed |
//! | downloaded | the Thing is told to install; from here on it reports itself |
//! | installing to trial | a Thing without our agent is asked how it goes, also after a restart |
//! | postponed | a transfer under way is given up; a package that is held stays where it is |
//! | an end | what is not yet installing is given up |

use std::collections::BTreeMap;

use lamplighter_types::limits::TEXT_BYTES_MAX;
use lamplighter_types::{DeploymentReport, DeploymentState, Hash, Id};

use super::job::Job;
use super::text::clean;
use crate::lwm2m::{Stage, UpdateResult};
use crate::south::{SouthCommand, WorkNotice};
use crate::spool::Outgoing;
use crate::verify::{Assignment, DesiredDocument};

use DeploymentState::*;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// To the ledger.
    Report(Box<Outgoing>),
    /// Fetch the artifact or check what is there; [`Jobs::prepared`] is the answer.
    Prepare {
        device: Id,
        digest: Hash,
        size_bytes: u64,
    },
    /// To the Thing. The path of a transfer's artifact is for the caller to fill in.
    Command(SouthCommand),
}

/// The work on all devices of a gateway.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: BTreeMap<Id, Job>,
    /// Whether a registered Thing has our agent.
    agents: BTreeMap<Id, bool>,
    /// Documents that devices should have and did not report.
    documents: BTreeMap<Id, DesiredDocument>,
    /// The newest document that was given to the south.
    given: BTreeMap<Id, Hash>,
    /// Height of the newest proven state of a device's deployments: older ones are not believed.
    floors: BTreeMap<Id, u64>,
    /// Counters of reports that the gateway makes for Things.
    counters: BTreeMap<Id, u64>,
    /// Height of the newest certified header.
    seen_height: u64,
}

impl Jobs {
    /// The artifacts that must stay in the cache.
    pub fn artifacts(&self) -> Vec<Hash> {
        self.jobs
            .values()
            .map(|job| job.assignment.manifest.artifact)
            .collect()
    }

    /// Deployments at work.
    pub fn len(&self) -> usize {
        self.jobs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// The state of a device's deployment, as far as the ledger is known.
    pub fn state(&self, device: &Id) -> Option<DeploymentState> {
        self.jobs.get(device).map(|job| job.state)
    }

    /// A certified header was seen.
    pub fn saw(&mut self, height: u64) {
        self.seen_height = self.seen_height.max(height);
    }

    /// A proven assignment. `queued` is the last state reported for it that is still in the spool.
    pub fn assigned(
        &mut self,
        assignment: Assignment,
        queued: Option<DeploymentState>,
        now_ms: u64,
    ) -> Vec<Effect> {
        let device = assignment.device.device.clone();
        if !self.raise_floor(&device, assignment.height) {
            return Vec::new();
        }
        self.saw(assignment.head_height);
        let counter = self.counters.entry(device.clone()).or_default();
        *counter = (*counter).max(assignment.report_counter);
        let mut effects = Vec::new();
        let state = assignment.deployment.state;
        match self.jobs.get_mut(&device) {
            Some(job) if job.assignment.deployment.rollout == assignment.deployment.rollout => {
                job.assignment = assignment;
                // While a report is on its way its receipt decides.
                if queued.is_none() && job.queued.is_none() && job.state != state {
                    // What is postponed may be under way at the Thing.
                    if state != Postponed {
                        job.ordered = None;
                    }
                    job.state = state;
                }
            }
            other => {
                effects.extend(other.and_then(|old| old.give_up()));
                self.jobs
                    .insert(device.clone(), Job::new(assignment, queued));
            }
        }
        effects.extend(self.drive(&device, now_ms));
        effects
    }

    /// A deployment has ended on the ledger.
    pub fn ended(&mut self, rollout: &Id, device: &Id, height: u64) -> Vec<Effect> {
        if !self.raise_floor(device, height) {
            return Vec::new();
        }
        self.end(rollout, device)
    }

    fn end(&mut self, rollout: &Id, device: &Id) -> Vec<Effect> {
        match self.jobs.get(device) {
            Some(job) if job.assignment.deployment.rollout == *rollout => {
                let effect = job.give_up();
                self.jobs.remove(device);
                effect.into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    /// A device is no longer ours: it shall look elsewhere, and its work goes on there.
    pub fn removed(&mut self, device: &Id) -> Vec<Effect> {
        self.documents.remove(device);
        self.given.remove(device);
        self.agents.remove(device);
        self.jobs.remove(device);
        let endpoint = device.to_string();
        vec![Effect::Command(SouthCommand::Release { endpoint })]
    }

    fn raise_floor(&mut self, device: &Id, height: u64) -> bool {
        let floor = self.floors.entry(device.clone()).or_default();
        let believed = height >= *floor;
        *floor = (*floor).max(height);
        believed
    }

    /// The artifact is here and right, or could not be had now.
    pub fn prepared(&mut self, device: &Id, digest: &Hash, good: bool, now_ms: u64) -> Vec<Effect> {
        let Some(job) = self.jobs.get_mut(device) else {
            return Vec::new();
        };
        if job.assignment.manifest.artifact != *digest {
            return Vec::new();
        }
        (job.ready, job.preparing) = (good, false);
        if !good {
            job.back_off(now_ms);
            return Vec::new();
        }
        self.drive(device, now_ms)
    }

    /// The south has nothing of what it was told to do at a Thing; it is told again.
    pub fn begun_anew(&mut self, device: &Id) {
        if let Some(job) = self.jobs.get_mut(device) {
            job.ordered = None;
        }
    }

    /// A Thing registered. Anybody can in its name, and take an order without a word: it is given
    /// again as long as the ledger's state asks for it.
    pub fn registered(&mut self, device: &Id, agent: bool, now_ms: u64) -> Vec<Effect> {
        if let Some(job) = self.jobs.get_mut(device) {
            job.anew = true;
        }
        self.agents.insert(device.clone(), agent);
        self.given.remove(device);
        let mut effects = self.configure(device);
        effects.extend(self.drive(device, now_ms));
        effects
    }

    /// A report of a Thing is kept and will go to the ledger.
    pub fn reported(&mut self, report: &DeploymentReport) {
        if let Some(job) = self.jobs.get_mut(&report.device)
            && job.assignment.deployment.rollout == report.rollout
        {
            job.queued = Some(report.to);
        }
    }

    /// The ledger has dealt with a report, in the block at `height`.
    pub fn settled(
        &mut self,
        outgoing: &Outgoing,
        refused: bool,
        height: u64,
        now_ms: u64,
    ) -> Vec<Effect> {
        match outgoing {
            Outgoing::Deployment(report) => self.step_settled(report, refused, height, now_ms),
            Outgoing::Config(report) if !refused => {
                let done = self.documents.get(&report.device);
                let attested = report.signature.is_some();
                if done.is_some_and(|wanted| wanted.is_told(&report.document, attested)) {
                    self.documents.remove(&report.device);
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn step_settled(
        &mut self,
        report: &DeploymentReport,
        refused: bool,
        height: u64,
        now_ms: u64,
    ) -> Vec<Effect> {
        let Some(job) = self.jobs.get_mut(&report.device) else {
            return Vec::new();
        };
        if job.assignment.deployment.rollout != report.rollout {
            return Vec::new();
        }
        if job.queued == Some(report.to) {
            job.queued = None;
        }
        if refused {
            job.back_off(now_ms);
            return Vec::new();
        }
        job.refusals = 0;
        job.state = report.to;
        self.raise_floor(&report.device, height);
        match report.to.is_end() {
            // The Thing has said so itself: there is nothing to give up.
            true => drop(self.jobs.remove(&report.device)),
            false => return self.drive(&report.device, now_ms),
        }
        Vec::new()
    }

    /// The next step of a device's deployment, if the gateway has one to do.
    pub fn drive(&mut self, device: &Id, now_ms: u64) -> Vec<Effect> {
        let vouched = self.vouches_for(device);
        let Some(job) = self.jobs.get_mut(device) else {
            return Vec::new();
        };
        if job.queued.is_some() || now_ms < job.not_before_ms {
            return Vec::new();
        }
        match job.state {
            Assigned => self.report_own(device, Offered, 0, "", now_ms),
            Offered if job.ready => self.report_own(device, Downloading, 0, "", now_ms),
            Offered | Downloading if !job.ready => job.prepare(),
            Downloading | Downloaded | Postponed => job.order(self.seen_height),
            Installing | Staged | Trial if vouched => job.order(self.seen_height),
            _ => Vec::new(),
        }
    }

    /// Whether the gateway speaks for the Thing: it has no key, and registered without our agent.
    /// For a Thing with a key a registration proves nothing, since it is not signed.
    fn vouches_for(&self, device: &Id) -> bool {
        let keyed = |job: &Job| job.assignment.device.key.is_some();
        let foreign = self.agents.get(device) == Some(&false);
        foreign && !self.jobs.get(device).is_some_and(keyed)
    }

    /// Goes on with everything that waits for its time.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Effect> {
        let due = |job: &Job| job.not_before_ms > 0 && now_ms >= job.not_before_ms;
        let mut devices = Vec::new();
        for (device, job) in self.jobs.iter_mut().filter(|(_, job)| due(job)) {
            job.not_before_ms = 0;
            devices.push(device.clone());
        }
        devices
            .iter()
            .flat_map(|device| self.drive(device, now_ms))
            .collect()
    }

    /// A report that the gateway makes itself, without the Thing's signature.
    fn report_own(
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
        } = &job.assignment;
        let held = matches!(to, Downloaded | Trial | Confirmed);
        let report = DeploymentReport {
            rollout: deployment.rollout.clone(),
            device: device.clone(),
            from: job.queued.unwrap_or(job.state),
            to,
            code,
            digest: held.then_some(manifest.artifact),
            seen_height,
            counter,
            detail: clean(detail, TEXT_BYTES_MAX),
            signature: None,
        };
        job.queued = Some(to);
        vec![Effect::Report(Box::new(Outgoing::Deployment(report)))]
    }

    /// Above everything that the ledger or this gateway has used; the time makes it so over
    /// restarts too.
    fn next_counter(&mut self, device: &Id, now_ms: u64) -> u64 {
        let counter = self.counters.entry(device.clone()).or_default();
        *counter = (*counter + 1).max(now_ms);
        *counter
    }

    /// What the south tells of the work on a Thing.
    pub fn noticed(&mut self, device: &Id, notice: &WorkNotice, now_ms: u64) -> Vec<Effect> {
        match notice {
            WorkNotice::Progress { .. } => {}
            // What became of the document, the Thing's agent reports itself.
            WorkNotice::Configured { accepted, detail } => {
                tracing::debug!(%device, accepted, detail, "a configuration was handed over");
            }
            WorkNotice::Refused { deployment, reason } => {
                tracing::warn!(%device, deployment, reason, "the south refused");
                if deployment.is_empty() {
                    // A document, which is given again with the node's next reminder.
                    self.given.remove(device);
                }
                self.not_now(device, deployment, now_ms);
            }
            WorkNotice::Busy { deployment } => self.not_now(device, deployment, now_ms),
            WorkNotice::Stage {
                deployment,
                stage,
                detail,
            } => {
                let job = self.jobs.get(device);
                if job.is_some_and(|job| job.is_of(deployment)) {
                    return self.staged(device, *stage, detail, now_ms);
                }
            }
        }
        Vec::new()
    }

    /// The order is given again later.
    fn not_now(&mut self, device: &Id, deployment: &str, now_ms: u64) {
        let job = self.jobs.get_mut(device);
        if let Some(job) = job.filter(|job| job.is_of(deployment)) {
            job.ordered = None;
            job.ready = false;
            job.back_off(now_ms);
        }
    }

    /// A stage that object 5 shows. A Thing with our agent or a key reports itself, except that it
    /// can't go on.
    fn staged(&mut self, device: &Id, stage: Stage, detail: &str, now_ms: u64) -> Vec<Effect> {
        match stage {
            Stage::Failed(result) => self.failed(device, Failed, result, detail, now_ms),
            _ if !self.vouches_for(device) => Vec::new(),
            Stage::Rejected(result) => self.failed(device, Rejected, result, detail, now_ms),
            Stage::Downloaded => self.advance(device, Downloaded, now_ms),
            Stage::Installing => self.advance(device, Installing, now_ms),
            Stage::Trial => self.advance(device, Trial, now_ms),
            Stage::Confirmed => self.advance(device, Confirmed, now_ms),
            Stage::Reverted => {
                let mut effects = self.advance(device, Installing, now_ms);
                let result = UpdateResult::UpdateFailed;
                effects.extend(self.failed(device, Reverted, result, detail, now_ms));
                effects
            }
            Stage::Idle | Stage::Downloading | Stage::Cancelled | Stage::Postponed => Vec::new(),
        }
    }

    fn failed(
        &mut self,
        device: &Id,
        to: DeploymentState,
        result: UpdateResult,
        detail: &str,
        now_ms: u64,
    ) -> Vec<Effect> {
        let at = self
            .jobs
            .get(device)
            .map(|job| job.queued.unwrap_or(job.state));
        if at.is_none_or(DeploymentState::is_end) {
            return Vec::new();
        }
        self.report_own(device, to, u32::from(result.value()), detail, now_ms)
    }

    /// Vouches for every step up to `to` that was not reported.
    fn advance(&mut self, device: &Id, to: DeploymentState, now_ms: u64) -> Vec<Effect> {
        let at = self
            .jobs
            .get(device)
            .map(|job| job.queued.unwrap_or(job.state));
        let at = at.filter(|at| !at.is_end() && at.progress() >= Downloading.progress());
        let Some(at) = at.and_then(DeploymentState::progress) else {
            return Vec::new();
        };
        let steps = [Downloaded, Installing, Trial, Confirmed];
        let steps = steps
            .into_iter()
            .filter(|step| step.progress() > Some(at) && step.progress() <= to.progress());
        steps
            .flat_map(|step| self.report_own(device, step, 0, "", now_ms))
            .collect()
    }

    /// A proven document.
    pub fn desired(&mut self, document: DesiredDocument) -> Vec<Effect> {
        let device = document.device.clone();
        let reported = document.reported.as_ref();
        if reported.is_some_and(|known| document.is_told(&known.document, known.attested)) {
            self.documents.remove(&device);
            return Vec::new();
        }
        self.documents.insert(device.clone(), document);
        self.configure(&device)
    }

    /// Gives a Thing that has our agent its document, once for each registration. Another one has
    /// no place for it.
    fn configure(&mut self, device: &Id) -> Vec<Effect> {
        let Some(document) = self.documents.get(device) else {
            return Vec::new();
        };
        let has_agent = self.agents.get(device) == Some(&true);
        if !has_agent || self.given.get(device) == Some(&document.hash) {
            return Vec::new();
        }
        self.given.insert(device.clone(), document.hash);
        let (endpoint, bytes) = (device.to_string(), document.document.clone().into_bytes());
        vec![Effect::Command(SouthCommand::Configure {
            endpoint,
            document: bytes,
        })]
    }
}
