//! The tables of the state: the first byte of every state key. A number is never used again.

/// A table of the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Table {
    Organization = 0x01,
    Account = 0x02,
    Key = 0x03,
    ReplayWindow = 0x04,
    Approver = 0x05,
    Administrator = 0x06,

    Device = 0x10,
    DeviceState = 0x11,
    DeviceByGateway = 0x12,
    DeviceByDistrict = 0x13,
    DeviceByOwner = 0x14,
    DeviceByKey = 0x15,
    IotRegistry = 0x16,
    RegistrantLink = 0x17,

    Release = 0x20,
    Artifact = 0x21,
    ReleaseByArtifact = 0x22,
    OpenRelease = 0x23,

    Rollout = 0x30,
    Deployment = 0x31,
    DeploymentByDevice = 0x32,
    DeploymentTimer = 0x33,
    RunningRollout = 0x34,
    OpenPlan = 0x35,

    DesiredConfig = 0x40,
    ReportedConfig = 0x41,

    EventCursor = 0x50,
    Alarm = 0x51,
    OpenAlarm = 0x52,
    AlarmSlot = 0x53,

    ValidatorSet = 0x60,
    Observer = 0x61,
    Policies = 0x62,
    Proposal = 0x63,
    Protocol = 0x64,
    UsedNode = 0x65,
    ProposalDeadline = 0x66,
}
