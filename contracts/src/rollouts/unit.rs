//! The unit of work on rollouts: the only code that moves deployments, so that state, steps,
//! counts, timers and indexes change together.

use std::collections::{BTreeMap, BTreeSet};

use lamplighter_state::{Overlay, StateError};
use lamplighter_types::{
    Deployment, DeploymentState, DeploymentStep, Device, Fact, Id, InstallRules, Notification,
    Release, Rollout, RolloutStatus,
};

use super::grouped::Grouped;
use super::plan::is_open;
use super::timers::deadline;
use super::transitions::is_legal;
use super::{
    DEPLOYMENT_STEPS_MAX, STEP_DETAIL_BYTES_MAX, device_state, error_gate, groups, guards, keys,
};
use crate::{BlockContext, firmware};

/// The data of a step besides the state that it leads to.
#[derive(Clone, Debug, Default)]
pub struct StepInfo {
    /// The account that caused the step; `None` if it was the contract itself.
    pub by: Option<Id>,
    pub attested: bool,
    pub code: u32,
    pub detail: String,
}

impl StepInfo {
    /// A step of the contract itself.
    pub fn system(detail: &str) -> Self {
        Self {
            detail: detail.to_owned(),
            ..Self::default()
        }
    }
}

/// The work on deployments within one transaction or one block. Rollouts are read once and written
/// by [`commit`](Self::commit). If it is dropped without that, the overlay must be rolled back.
pub struct RolloutUnit<'a> {
    pub overlay: &'a mut Overlay,
    pub block: BlockContext,
    rollouts: BTreeMap<Id, Rollout>,
    /// The groups of the rollouts that were read; none for those without groups.
    grouped: BTreeMap<Id, Option<Grouped>>,
    /// The guards of the rollouts that were read; none for those without.
    rules: BTreeMap<Id, Option<InstallRules>>,
    changed: BTreeSet<Id>,
    releases: BTreeMap<Id, Release>,
    notifications: Vec<Notification>,
}

impl<'a> RolloutUnit<'a> {
    pub fn new(overlay: &'a mut Overlay, block: BlockContext) -> Self {
        Self {
            overlay,
            block,
            rollouts: BTreeMap::new(),
            grouped: BTreeMap::new(),
            rules: BTreeMap::new(),
            changed: BTreeSet::new(),
            releases: BTreeMap::new(),
            notifications: Vec::new(),
        }
    }

    /// A rollout that a record names.
    pub fn rollout(&mut self, name: &Id) -> Result<&Rollout, StateError> {
        self.load(name).map(|rollout| &*rollout)
    }

    /// A rollout that a record names, to be changed.
    pub fn edit(&mut self, name: &Id) -> Result<&mut Rollout, StateError> {
        self.changed.insert(name.clone());
        self.load(name)
    }

    fn load(&mut self, name: &Id) -> Result<&mut Rollout, StateError> {
        if !self.rollouts.contains_key(name) {
            let missing = || StateError::Missing {
                what: format!("the rollout {name}"),
            };
            let found = self
                .overlay
                .get(&keys::rollout(name))?
                .ok_or_else(missing)?;
            self.rollouts.insert(name.clone(), found);
        }
        Ok(self
            .rollouts
            .get_mut(name)
            .expect("it was inserted above if it was missing"))
    }

    /// The groups of a rollout, if it has groups.
    pub fn grouped(&mut self, name: &Id) -> Result<Option<&Grouped>, StateError> {
        self.load_groups(name).map(|grouped| grouped.as_ref())
    }

    /// The groups of a rollout, to be changed.
    pub fn edit_groups(&mut self, name: &Id) -> Result<Option<&mut Grouped>, StateError> {
        self.edit(name)?;
        self.load_groups(name).map(Option::as_mut)
    }

    fn load_groups(&mut self, name: &Id) -> Result<&mut Option<Grouped>, StateError> {
        if !self.grouped.contains_key(name) {
            let state = self.overlay.get(&keys::groups(name))?;
            let found = match state {
                Some(state) => {
                    let missing = || StateError::Missing {
                        what: format!("the plan in groups of {name}"),
                    };
                    let plan = self.overlay.get(&keys::grouped_plan(name))?;
                    let plan = plan.ok_or_else(missing)?;
                    Some(Grouped { plan, state })
                }
                None => None,
            };
            self.grouped.insert(name.clone(), found);
        }
        Ok(self
            .grouped
            .get_mut(name)
            .expect("it was inserted above if it was missing"))
    }

    /// The guards of a rollout, if its plan has some.
    pub fn rules(&mut self, name: &Id) -> Result<Option<&InstallRules>, StateError> {
        if !self.rules.contains_key(name) {
            let found = self.overlay.get(&keys::install_rules(name))?;
            self.rules.insert(name.clone(), found);
        }
        Ok(self.rules[name].as_ref())
    }

    /// A release that a record names.
    pub fn release(&mut self, name: &Id) -> Result<&Release, StateError> {
        if !self.releases.contains_key(name) {
            let missing = || StateError::Missing {
                what: format!("the release {name}"),
            };
            let found = firmware::release(self.overlay, name)?.ok_or_else(missing)?;
            self.releases.insert(name.clone(), found);
        }
        Ok(&self.releases[name])
    }

    pub fn notify(&mut self, notification: Notification) {
        self.notifications.push(notification);
    }

    /// Makes the deployment of a device in a rollout: `Assigned`, or `NotNeeded` at once.
    pub fn assign(
        &mut self,
        rollout: &Id,
        device: &Device,
        to: DeploymentState,
    ) -> Result<(), StateError> {
        super::kept::make_room(self, &device.device)?;
        let height = self.block.height;
        let release = self.rollout(rollout)?.plan.release.clone();
        let mut deployment = Deployment {
            rollout: rollout.clone(),
            device: device.device.clone(),
            release,
            state: to,
            assigned_height: height,
            steps: Vec::new(),
            retries: 0,
            postponed_count: 0,
            postponed_until_ms: None,
            postponed_from: None,
            first_offered_ms: None,
            deadline_ms: None,
        };
        let index = keys::device_rollout(&device.device, height, rollout);
        self.overlay.put(&index, rollout);
        if !to.is_end() {
            let mut state = device_state::state(self.overlay, &device.device)?;
            state.active_rollout = Some(rollout.clone());
            device_state::put_state(self.overlay, &device.device, &state);
            guards::begin(self, &deployment)?;
        }
        self.count(rollout, height, None, to)?;
        self.enter(&mut deployment, device, None, StepInfo::default())
    }

    /// Moves a deployment to another state.
    pub fn advance(
        &mut self,
        deployment: &mut Deployment,
        device: &Device,
        to: DeploymentState,
        info: StepInfo,
    ) -> Result<(), StateError> {
        self.shift(deployment, device, deployment.state, to, info)
    }

    /// Records a failure that leads back to `assigned` and so does not count as an end.
    pub fn retry(
        &mut self,
        deployment: &mut Deployment,
        device: &Device,
        info: StepInfo,
    ) -> Result<(), StateError> {
        let failed = DeploymentState::Failed;
        self.notify_moved(deployment, device, Some(deployment.state), failed, &info);
        self.add_step(deployment, failed, info);
        let backoff_ms = self.backoff_ms(deployment)?;
        deployment.retries = deployment.retries.saturating_add(1);
        let again = StepInfo::system("retry");
        if backoff_ms == 0 {
            return self.shift(deployment, device, failed, DeploymentState::Assigned, again);
        }
        deployment.postponed_from = Some(DeploymentState::Assigned);
        deployment.postponed_until_ms = Some(self.block.time_ms.saturating_add(backoff_ms));
        self.shift(
            deployment,
            device,
            failed,
            DeploymentState::Postponed,
            again,
        )
    }

    /// The time in ms before the next retry of a deployment.
    fn backoff_ms(&mut self, deployment: &Deployment) -> Result<u64, StateError> {
        let grouped = self.grouped(&deployment.rollout)?;
        Ok(grouped.map_or(0, |grouped| grouped.backoff_ms(deployment.retries)))
    }

    /// Counts a device that is left out.
    pub fn count_skipped(&mut self, name: &Id) -> Result<(), StateError> {
        self.edit(name)?.counts.skipped += 1;
        if let Some(grouped) = self.edit_groups(name)? {
            grouped.count_skipped();
        }
        Ok(())
    }

    /// Counts the move of a deployment that was assigned at a height, in its rollout and its group.
    fn count(
        &mut self,
        name: &Id,
        assigned_height: u64,
        from: Option<DeploymentState>,
        to: DeploymentState,
    ) -> Result<(), StateError> {
        error_gate::count_move(&mut self.edit(name)?.counts, from, to);
        if let Some(grouped) = self.edit_groups(name)? {
            grouped.count_move(assigned_height, from, to);
        }
        Ok(())
    }

    /// Moves a deployment. `from` is the state in the notification; after a retry it is not the one
    /// that the counts have.
    fn shift(
        &mut self,
        deployment: &mut Deployment,
        device: &Device,
        from: DeploymentState,
        to: DeploymentState,
        info: StepInfo,
    ) -> Result<(), StateError> {
        let (name, height) = (deployment.rollout.clone(), deployment.assigned_height);
        self.count(&name, height, Some(deployment.state), to)?;
        deployment.state = to;
        self.enter(deployment, device, Some(from), info)?;
        if to.is_end() {
            self.clear_active(deployment)?;
        }
        if guards::lacks_consent(self, deployment)? {
            let info = StepInfo::system("it waits for consent");
            return self.shift(
                deployment,
                device,
                to,
                DeploymentState::WaitingConsent,
                info,
            );
        }
        self.evaluate_gate(&deployment.rollout)
    }

    /// Adds a step that does not change the state.
    pub fn add_step(&self, deployment: &mut Deployment, to: DeploymentState, info: StepInfo) {
        let StepInfo {
            by,
            attested,
            code,
            detail,
        } = info;
        let detail = shortened(detail);
        let BlockContext {
            chain_id: _,
            height,
            time_ms,
        } = self.block;
        if deployment.steps.len() >= DEPLOYMENT_STEPS_MAX {
            deployment.steps.remove(1);
        }
        deployment.steps.push(DeploymentStep {
            to,
            height,
            time_ms,
            by,
            attested,
            code,
            detail,
        });
    }

    pub fn put(&mut self, deployment: &Deployment) {
        self.overlay.put(
            &keys::deployment(&deployment.rollout, &deployment.device),
            deployment,
        );
    }

    /// Sets or stops the timer of a deployment; the caller stores the deployment.
    pub fn set_timer(&mut self, deployment: &mut Deployment, deadline_ms: Option<u64>) {
        if deployment.deadline_ms == deadline_ms {
            return;
        }
        let (rollout, device) = (deployment.rollout.clone(), deployment.device.clone());
        if let Some(old) = deployment.deadline_ms {
            self.overlay.delete(&keys::timer(old, &rollout, &device));
        }
        if let Some(new) = deadline_ms {
            self.overlay.put(
                &keys::timer(new, &rollout, &device),
                &(new, rollout, device),
            );
        }
        deployment.deadline_ms = deadline_ms;
    }

    /// Changes the status of a rollout.
    pub fn set_status(&mut self, name: &Id, status: RolloutStatus) -> Result<(), StateError> {
        let height = self.block.height;
        let rollout = self.edit(name)?;
        rollout.status = status;
        rollout.status_height = height;
        Ok(())
    }

    /// Pauses, finishes or stops the rollout, or opens its next group, if its counts say so.
    pub fn evaluate_gate(&mut self, name: &Id) -> Result<(), StateError> {
        if self.grouped(name)?.is_some() {
            return groups::evaluate(self, name);
        }
        match error_gate::status_after(self.rollout(name)?) {
            Some(RolloutStatus::PausedByErrors) => {
                self.pause_by_errors(name, "too many deployments failed".to_owned())
            }
            Some(status) => self.end(name, status),
            None => Ok(()),
        }
    }

    /// Pauses a rollout; resuming takes new approvals.
    pub fn pause_by_errors(&mut self, name: &Id, reason: String) -> Result<(), StateError> {
        self.set_status(name, RolloutStatus::PausedByErrors)?;
        let record = self.edit(name)?;
        record.approvals.clear();
        record.reason.clone_from(&reason);
        let rollout = name.clone();
        self.notify(Notification::city(Fact::RolloutPaused { rollout, reason }));
        Ok(())
    }

    /// Finishes or stops a rollout.
    pub fn end(&mut self, name: &Id, status: RolloutStatus) -> Result<(), StateError> {
        self.set_status(name, status)?;
        let rollout = name.clone();
        let fact = match status {
            RolloutStatus::Stopped => Fact::RolloutStopped { rollout },
            RolloutStatus::Finished => Fact::RolloutFinished { rollout },
            // Counts lead to no other end.
            RolloutStatus::PendingApproval
            | RolloutStatus::Approved
            | RolloutStatus::Running
            | RolloutStatus::Paused
            | RolloutStatus::PausedByErrors
            | RolloutStatus::Stopping => return Ok(()),
        };
        self.notify(Notification::city(fact));
        Ok(())
    }

    /// Writes the changed rollouts and the indexes of those at work; returns the notifications.
    pub fn commit(mut self) -> Result<Vec<Notification>, StateError> {
        for name in std::mem::take(&mut self.changed) {
            self.load_groups(&name)?;
            let rollout = &self.rollouts[&name];
            let grouped = self.grouped.get_mut(&name).and_then(Option::as_mut);
            self.overlay.put(&keys::rollout(&name), rollout);
            let open = keys::open_plan(&rollout.organization, &name);
            if !is_open(rollout.status) && self.overlay.exists(&open)? {
                self.overlay.delete(&open);
            }
            let late = grouped
                .as_ref()
                .map_or(0, |grouped| grouped.late_to_enter());
            let key = keys::work(&name);
            let old = self.overlay.get(&key)?;
            match error_gate::work(rollout, late).map(|work| (name.clone(), work)) {
                Some(new) if old.as_ref() != Some(&new) => self.overlay.put(&key, &new),
                None if old.is_some() => self.overlay.delete(&key),
                Some(_) | None => {}
            }
            if let Some(grouped) = grouped {
                grouped.commit(self.overlay, rollout)?;
            }
        }
        Ok(self.notifications)
    }

    /// Does what every new state needs: step, timer, record, notification.
    fn enter(
        &mut self,
        deployment: &mut Deployment,
        device: &Device,
        from: Option<DeploymentState>,
        info: StepInfo,
    ) -> Result<(), StateError> {
        debug_assert!(is_legal(from, deployment.state));
        let timers = self.rollout(&deployment.rollout)?.plan.timers.clone();
        let deadline = match guards::deadline(self, deployment, from)? {
            None => deadline(deployment, from, &timers, self.block.time_ms),
            guarded => guarded,
        };
        self.set_timer(deployment, deadline);
        self.notify_moved(deployment, device, from, deployment.state, &info);
        self.add_step(deployment, deployment.state, info);
        self.put(deployment);
        Ok(())
    }

    fn notify_moved(
        &mut self,
        deployment: &Deployment,
        device: &Device,
        from: Option<DeploymentState>,
        to: DeploymentState,
        info: &StepInfo,
    ) {
        let rollout = deployment.rollout.clone();
        let StepInfo {
            by: _,
            attested,
            code,
            detail: _,
        } = *info;
        let fact = Fact::DeploymentMoved {
            rollout,
            from,
            to,
            attested,
            code,
        };
        self.notify(Notification::about_device(device, fact));
    }

    /// Clears the active rollout of the device, if it is that of the deployment.
    fn clear_active(&mut self, deployment: &Deployment) -> Result<(), StateError> {
        let mut state = device_state::state(self.overlay, &deployment.device)?;
        if state.active_rollout.as_ref() == Some(&deployment.rollout) {
            state.active_rollout = None;
            device_state::put_state(self.overlay, &deployment.device, &state);
        }
        Ok(())
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(STEP_DETAIL_BYTES_MAX));
    text
}
