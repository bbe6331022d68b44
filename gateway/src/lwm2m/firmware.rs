//! Object 5, Firmware Update: its state, its result, and what both mean for a deployment.

/// Resource 3, State.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirmwareState {
    /// 0: nothing under way.
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

    /// The resource's value, which is also the result code of a deployment's report.
    pub fn value(self) -> u8 {
        self as u8
    }
}

/// What the Thing's object 5 says about the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Nothing under way and no result.
    Idle,
    /// The package arrives.
    Downloading,
    /// The package is complete.
    Downloaded,
    /// It is being installed.
    Installing,
    /// The new image has started; not yet a success.
    Trial,
    /// The new image registered and named its version.
    Confirmed,
    /// It runs another version, with no update under way.
    Reverted,
    /// The update went wrong.
    Failed(UpdateResult),
    /// The package was refused.
    Rejected(UpdateResult),
    /// Ended on request.
    Cancelled,
    /// The user wants it later.
    Postponed,
}

impl Stage {
    /// Reads state and result together. A result other than "initial" tells of the last attempt
    /// once nothing is under way; an update that failed may leave the package where it was (state
    /// 2).
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
