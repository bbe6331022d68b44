//! The check of an order by the Thing that gets it. Its gateway may be in other hands: the Thing
//! believes what the validators certified, at one height for all records of an order, and nothing
//! that is older than what it took before.
//!
//! The rules are those by which a gateway believes a node. So a gateway can withhold an order, and
//! give one that is in force as late as its proof is fresh, but not make one up.

use std::time::Duration;

use lamplighter_contracts::{Reader, config, devices, rollouts, users};
use lamplighter_state::StateError;
use lamplighter_types::codec::CodecError;
use lamplighter_types::proof::{ProofError, SetPath, TrustedSet};
use lamplighter_types::wire::work::{ProofSet, WorkError};
use lamplighter_types::{
    Deployment, DeploymentState, Device, DeviceStatus, Hash, Id, ReleaseStatus, Role,
    SignedRelease, codec,
};
use serde::{Deserialize, Serialize};

use super::{AHEAD_MAX, ProvenState, StateBlock, VerifyError, release, release_record};
use crate::coap::Code;
use crate::lwm2m::order::{CONFLICT, ORDER_BYTES_MAX, OrderAction, OrderMessage};

/// The part of an order that the ledger proves, for the Thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderProof {
    /// Height of the block of its records.
    pub height: u64,
    /// The encoded [`ProofSet`]; empty if there is none that fits.
    pub proofs: Vec<u8>,
}

impl OrderProof {
    /// The proof that a gateway passes on for a deployment, out of a message of work.
    pub fn of_deployment(all: &ProofSet, deployment: &Deployment, vendor: &Id) -> Self {
        let device = &deployment.device;
        let rollout = rollouts::keys::deployment(&deployment.rollout, device);
        let release = lamplighter_contracts::firmware::keys::release(&deployment.release);
        let (device, vendor) = (devices::keys::device(device), users::keys::account(vendor));
        let wanted = [
            rollout.as_bytes(),
            device.as_bytes(),
            release.as_bytes(),
            vendor.as_bytes(),
        ];
        Self::select(all, &wanted)
    }

    /// The proof that a gateway passes on for the documents of a device.
    pub fn of_documents(all: &ProofSet, device: &Device) -> Self {
        let keys = config::targets(device)
            .iter()
            .map(|target| config::keys::desired(target).as_bytes().to_vec())
            .chain([devices::keys::device(&device.device).as_bytes().to_vec()])
            .collect::<Vec<_>>();
        let wanted: Vec<_> = keys.iter().map(Vec::as_slice).collect();
        Self::select(all, &wanted)
    }

    /// All records are of one block, as those of a message of work that was believed.
    fn select(all: &ProofSet, wanted: &[&[u8]]) -> Self {
        let selected = all.select(|key| wanted.contains(&key));
        let height = selected.oldest_height().unwrap_or_default();
        let proofs = codec::encode(&selected);
        // The action before it has two names at most.
        let fits = proofs.len() + 256 <= ORDER_BYTES_MAX;
        let proofs = if fits { proofs } else { Vec::new() };
        Self { height, proofs }
    }
}

/// What a Thing keeps of the ledger. Both only rise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerPin {
    /// The newest validators that were proven to it; those of the genesis file at first.
    pub trusted: TrustedSet,
    /// Height of the block of the last order that it took.
    pub taken_height: u64,
}

/// The clock of a Thing that has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderClock {
    /// Unix time in ms.
    pub now_ms: u64,
    /// Greatest age of the block of an order.
    pub age_max: Duration,
}

/// What an order is proven to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProvenOrder {
    /// The release of a deployment of this device is to be taken, or installed.
    Deployment {
        rollout: Id,
        release: SignedRelease,
        /// Height of the certified header that proves it.
        head_height: u64,
    },
    /// The effective document of this device.
    Configuration { document: String, hash: Hash },
}

/// Why a Thing refuses an order.
#[derive(Debug, thiserror::Error)]
pub enum OrderRefusal {
    #[error("it is no order")]
    Malformed(#[source] CodecError),
    #[error("orders need a proof of the ledger")]
    Unproven,
    #[error("the proof does not hold")]
    Proof(#[source] WorkError),
    #[error("the proof does not lead on from the validators of height {trusted}")]
    Validators { trusted: u64 },
    #[error("the records are of several blocks")]
    SeveralBlocks(#[source] VerifyError),
    #[error("the proof is of height {height}, an order of height {taken} was taken before")]
    Older { height: u64, taken: u64 },
    #[error("the proof is {age:?} old, at most {age_max:?} is believed")]
    Stale { age: Duration, age_max: Duration },
    #[error("the proof is {0:?} ahead of the clock")]
    Future(Duration),
    #[error("what is needed is not proven")]
    Records(#[source] VerifyError),
    #[error("the ledger has no deployment of {0} to this device")]
    NotAssigned(Id),
    #[error("the deployment is {0:?} on the ledger")]
    NotOpen(DeploymentState),
    #[error("the ledger has no such device, or it is not active")]
    NotActive,
    #[error("the release is {0:?} on the ledger")]
    NotReleased(ReleaseStatus),
    #[error("the release is not signed by a key that its vendor uses")]
    Vendor,
    #[error("the package that is held is of another release or rollout")]
    OtherPackage,
}

impl OrderRefusal {
    /// The code of the answer.
    pub fn code(&self) -> Code {
        match self {
            Self::Malformed(_) => Code::BAD_REQUEST,
            Self::Validators { .. } => CONFLICT,
            Self::SeveralBlocks(_) | Self::Older { .. } | Self::Stale { .. } => {
                Code::PRECONDITION_FAILED
            }
            Self::Proof(error) if is_of_older_validators(error) => Code::PRECONDITION_FAILED,
            _ => Code::FORBIDDEN,
        }
    }

    /// The stable name of the reason in the Thing's event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "order.malformed",
            Self::Unproven => "order.unproven",
            Self::Proof(_) => "order.proof",
            Self::Validators { .. } => "order.validators",
            Self::SeveralBlocks(_) => "order.several_blocks",
            Self::Older { .. } => "order.older",
            Self::Stale { .. } => "order.stale",
            Self::Future(_) => "order.future",
            Self::Records(_) => "order.records",
            Self::NotAssigned(_) => "order.not_assigned",
            Self::NotOpen(_) => "order.not_open",
            Self::NotActive => "order.not_active",
            Self::NotReleased(_) => "order.not_released",
            Self::Vendor => "order.vendor",
            Self::OtherPackage => "order.other_package",
        }
    }
}

fn is_of_older_validators(error: &WorkError) -> bool {
    matches!(
        error,
        WorkError::Proof {
            source: ProofError::Older { .. },
            ..
        }
    )
}

impl From<StateError> for OrderRefusal {
    fn from(error: StateError) -> Self {
        Self::Records(error.into())
    }
}

impl LedgerPin {
    /// A pin that begins with these validators.
    pub fn new(trusted: TrustedSet) -> Self {
        Self {
            trusted,
            taken_height: 0,
        }
    }

    /// Takes note that a deployment has ended: the orders that were in force until then are used
    /// up, and whoever repeats one has to prove it anew.
    pub fn deployment_ended(&mut self) {
        self.taken_height = self.taken_height.saturating_add(1);
    }

    /// The pin after changes of the validators.
    ///
    /// # Errors
    /// A change does not follow from the trusted validators.
    pub fn follow(&self, path: &SetPath) -> Result<Self, ProofError> {
        let trusted = path.verify(&self.trusted)?;
        Ok(Self {
            trusted,
            taken_height: self.taken_height,
        })
    }

    /// Checks an order for the device, and returns what it is proven to be, with the pin to keep
    /// before it is carried out.
    ///
    /// # Errors
    /// The first condition that is not met.
    pub fn check(
        &self,
        order: &OrderMessage,
        device: &Id,
        clock: Option<OrderClock>,
    ) -> Result<(ProvenOrder, Self), OrderRefusal> {
        let state = self.prove(&order.proofs)?;
        let Some(StateBlock { height, time_ms }) = state.block else {
            let what = "record in the order".to_owned();
            return Err(OrderRefusal::Records(VerifyError::Absent { what }));
        };
        let taken = self.taken_height;
        if height < taken {
            return Err(OrderRefusal::Older { height, taken });
        }
        if let Some(clock) = clock {
            check_age(time_ms, clock)?;
        }
        let record = state.get(&devices::keys::device(device))?;
        let record = record.filter(|record| record.status == DeviceStatus::Active);
        let record = record.ok_or(OrderRefusal::NotActive)?;
        let proven = match &order.action {
            OrderAction::Offer { rollout, state: _ } | OrderAction::Install { rollout } => {
                ProvenOrder::Deployment {
                    rollout: rollout.clone(),
                    release: assigned(&state, rollout, device)?,
                    head_height: state.head_height,
                }
            }
            OrderAction::Configure => {
                let (document, hash) = config::effective(&state, &record)?;
                ProvenOrder::Configuration { document, hash }
            }
        };
        let trusted = match state.reached {
            Some(reached) if reached.height > self.trusted.height => reached,
            _ => self.trusted.clone(),
        };
        let taken_height = height;
        let pin = Self {
            trusted,
            taken_height,
        };
        Ok((proven, pin))
    }

    fn prove(&self, proofs: &ProofSet) -> Result<ProvenState, OrderRefusal> {
        let all = proofs.verify(&self.trusted).map_err(|error| {
            let trusted = self.trusted.height;
            match error.lacks_changes() {
                true => OrderRefusal::Validators { trusted },
                false => OrderRefusal::Proof(error),
            }
        })?;
        ProvenState::of(all).map_err(|error| match error {
            VerifyError::SeveralBlocks(..) => OrderRefusal::SeveralBlocks(error),
            error => OrderRefusal::Records(error),
        })
    }
}

fn check_age(time_ms: u64, clock: OrderClock) -> Result<(), OrderRefusal> {
    let OrderClock { now_ms, age_max } = clock;
    let ahead = Duration::from_millis(time_ms.saturating_sub(now_ms));
    if ahead > AHEAD_MAX {
        return Err(OrderRefusal::Future(ahead));
    }
    let age = Duration::from_millis(now_ms.saturating_sub(time_ms));
    if age > age_max {
        return Err(OrderRefusal::Stale { age, age_max });
    }
    Ok(())
}

/// The release that an open deployment gives to a device, as its vendor signed it.
fn assigned(state: &ProvenState, rollout: &Id, device: &Id) -> Result<SignedRelease, OrderRefusal> {
    let deployment = state.get(&rollouts::keys::deployment(rollout, device))?;
    let deployment = deployment.ok_or_else(|| OrderRefusal::NotAssigned(rollout.clone()))?;
    let waits = [DeploymentState::Postponed, DeploymentState::WaitingConsent];
    if deployment.state.is_end() || waits.contains(&deployment.state) {
        return Err(OrderRefusal::NotOpen(deployment.state));
    }
    let (signed, manifest) = release(state, &deployment.release).map_err(OrderRefusal::Records)?;
    let record = release_record(state, &deployment.release).map_err(OrderRefusal::Records)?;
    if !matches!(
        record.status,
        ReleaseStatus::Released | ReleaseStatus::Deprecated
    ) {
        return Err(OrderRefusal::NotReleased(record.status));
    }
    let vendor = state.get(&users::keys::account(&manifest.vendor))?;
    let may_sign = vendor.is_some_and(|vendor| {
        !vendor.disabled && vendor.has_role_somewhere(Role::Vendor) && vendor.has_key(&signed.key)
    });
    may_sign.then_some(signed).ok_or(OrderRefusal::Vendor)
}
