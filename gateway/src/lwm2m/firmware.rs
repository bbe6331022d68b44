//! Object 5, Firmware Update: its state, its result, and the stage of a deployment that both mean.

use super::value;
use crate::coap::Response;

/// Resource 3, State.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareState {
    /// 0: no update is under way.
    Idle,
    /// 1: the package arrives.
    Downloading,
    /// 2: the package is complete.
    Downloaded,
    /// 3: it is being installed.
    Updating,
}

impl FirmwareState {
    /// From the resource's value; `None` for one that the object does not define.
    pub fn from_value(value: i64) -> Option<FirmwareState> {
        use FirmwareState::*;
        [Idle, Downloading, Downloaded, Updating]
            .get(usize::try_from(value).ok()?)
            .copied()
    }

    /// Reads the response to a GET of the resource.
    pub fn read(response: &Response) -> Option<FirmwareState> {
        FirmwareState::from_value(value::integer(response, 3)?)
    }

    /// The resource's value.
    pub fn value(self) -> u8 {
        self as u8
    }
}

/// Resource 5, Update Result (object version 1.1; 10 and 11 since version 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateResult {
    /// 0
    Initial,
    /// 1
    Success,
    /// 2
    NotEnoughFlash,
    /// 3
    OutOfMemory,
    /// 4
    ConnectionLost,
    /// 5
    IntegrityCheckFailed,
    /// 6
    UnsupportedPackage,
    /// 7
    InvalidUri,
    /// 8
    UpdateFailed,
    /// 9
    UnsupportedProtocol,
    /// 10
    Cancelled,
    /// 11
    Deferred,
}

impl UpdateResult {
    /// From the resource's value; `None` for one that the object does not define.
    pub fn from_value(value: i64) -> Option<UpdateResult> {
        use UpdateResult::*;
        const ALL: [UpdateResult; 12] = [
            Initial,
            Success,
            NotEnoughFlash,
            OutOfMemory,
            ConnectionLost,
            IntegrityCheckFailed,
            UnsupportedPackage,
            InvalidUri,
            UpdateFailed,
            UnsupportedProtocol,
            Cancelled,
            Deferred,
        ];
        ALL.get(usize::try_from(value).ok()?).copied()
    }

    /// Reads the response to a GET of the resource.
    pub fn read(response: &Response) -> Option<UpdateResult> {
        UpdateResult::from_value(value::integer(response, 5)?)
    }

    /// The resource's value, which is also the result code of a deployment's report.
    pub fn value(self) -> u8 {
        self as u8
    }
}

/// Resource 9, Firmware Update Delivery Method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The Thing takes packages that are written to it: 1, 2 (both ways), or it does not say.
    Push,
    /// 0: the Thing only fetches packages.
    Pull,
}

impl Delivery {
    /// Reads the response to a GET of the resource.
    pub fn read(response: &Response) -> Delivery {
        match value::integer(response, 9) {
            Some(0) => Delivery::Pull,
            _ => Delivery::Push,
        }
    }
}

/// A protocol of resource 8, Firmware Update Protocol Support, that this gateway serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullProtocol {
    /// 0
    Coap,
    /// 2
    Http,
}

impl PullProtocol {
    /// The protocols that the Thing names and this gateway serves, CoAP first. A Thing that names
    /// none has CoAP.
    pub fn read(response: &Response) -> Vec<PullProtocol> {
        let named = value::integers(response, 8);
        let named = named.filter(|named| !named.is_empty()).unwrap_or(vec![0]);
        let all = [(0, PullProtocol::Coap), (2, PullProtocol::Http)];
        let both = all.into_iter().filter(|(value, _)| named.contains(value));
        both.map(|(_, protocol)| protocol).collect()
    }
}

/// The stage of a deployment, read from the Thing's object 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No update is under way and there is no result.
    Idle,
    /// The package arrives.
    Downloading,
    /// The package is complete.
    Downloaded,
    /// The package is being installed.
    Installing,
    /// The new image has started; not yet a success.
    Trial,
    /// The new image registered and named its version.
    Confirmed,
    /// The Thing runs another version, with no update under way.
    Reverted,
    /// The update went wrong.
    Failed(UpdateResult),
    /// The package was refused.
    Rejected(UpdateResult),
    /// The update ended on request.
    Cancelled,
    /// The user of the Thing deferred the update.
    Postponed,
}

impl Stage {
    /// Combines state and result. A result other than "initial" is about the last attempt once
    /// no update is under way; an update that failed may leave the package where it was (state 2).
    pub fn of(state: FirmwareState, result: UpdateResult) -> Stage {
        use UpdateResult::*;
        match (state, result) {
            (FirmwareState::Downloading, _) => Stage::Downloading,
            (FirmwareState::Updating, _) => Stage::Installing,
            (_, NotEnoughFlash | OutOfMemory | ConnectionLost) => Stage::Failed(result),
            (_, UpdateFailed | UnsupportedProtocol) => Stage::Failed(result),
            (_, IntegrityCheckFailed | UnsupportedPackage | InvalidUri) => Stage::Rejected(result),
            (_, Cancelled) => Stage::Cancelled,
            (_, Deferred) => Stage::Postponed,
            (FirmwareState::Downloaded, Initial | Success) => Stage::Downloaded,
            (FirmwareState::Idle, Success) => Stage::Trial,
            (FirmwareState::Idle, Initial) => Stage::Idle,
        }
    }
}
