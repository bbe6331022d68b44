//! The tables of the state: the first byte of every state key. A number is never used again.
//!
//! # Bounds
//! The state is on the disk of every validator, and a part of its tree in memory, so each table
//! has a bound that no single account can move. The first is the *allowance*: the records and
//! bytes that an account may add in a day ([`Allowances`](crate::Allowances)), which counts for all
//! rows that a transaction makes. The table says what bounds and removes the rows besides.
//!
//! | table | made by | bound | removed by |
//! |---|---|---|---|
//! | organizations, accounts | administrators, governance | allowance | never: names are not used again |
//! | keys, replay windows | registration, rotation | allowance; active ones 4 an account; one window a key, without a charge | never: revoked keys stay known |
//! | approvers, administrators | grants | accounts | revocation |
//! | allowance use | the first charge of an account | accounts | never |
//! | proposals, their deadlines | administrators | a number for each author | carried out, withdrawn or expired |
//! | devices, their state, indexes by gateway, district, owner | operators | allowance; 32 tags a device | never: ids are not used again; leaving a gateway removes from that index |
//! | devices by key | operators, Things, governance | a device has had at most 32 keys by its own rotation | release of decommissioned hardware |
//! | IOTRegistry: registrants, things, aliases, specs | relays for anybody with a registrant's key | allowance of the relay; 256 aliases a thing, 32 KiB a message | never, as the format demands |
//! | registrant links | administrators of the city | registrants | never |
//! | releases, artifacts | vendors | allowance, quotas | retention |
//! | rollouts | operators | allowance; 64 at work | never |
//! | plans in groups, their groups | with their rollouts | 16 groups and 1,000 named devices a rollout | never |
//! | install rules | with their rollouts | 8 windows and 3 kinds of consent a rollout | never |
//! | install records | blocks, for deployments of plans with guards | one a deployment | with the deployment |
//! | late devices | changes of devices, for continuous rollouts, of which 8 are at work | one a device and rollout | the next blocks |
//! | timers of rollouts, continuous rollouts | operators, blocks | rollouts at work, of which 8 are continuous | their end |
//! | revocation sweeps | revocations of releases that people approved | allowance | the walk over the devices |
//! | deployments, by device | blocks, for a rollout that people approved | 16 a device and those of rollouts at work; 256 devices a block | the next deployments of the device |
//! | timers, running rollouts | blocks | deployments and rollouts at work | their end |
//! | desired configuration | operators | allowance; 16 KiB a target | the empty document |
//! | reported configuration | gateways | one a device | never |
//! | event cursors | gateways | one a device, with 16 gaps | never |
//! | alarms, alarms of a device | gateways | 32 and 1 a device, of 64 kinds | clearing and acknowledgement, newer alarms |
//! | validator set, observers, policies, protocol, used nodes | governance | 31 validators, 64 observers; one used node for each that governance added | removal; used nodes never |

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
    AllowanceUse = 0x07,

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
    GroupedPlan = 0x36,
    RolloutGroups = 0x37,
    LateDevice = 0x38,
    RolloutTimer = 0x39,
    ContinuousRollout = 0x3a,
    RevocationSweep = 0x3b,
    InstallRules = 0x3c,
    InstallRecord = 0x3d,

    DesiredConfig = 0x40,
    ReportedConfig = 0x41,

    EventCursor = 0x50,
    Alarm = 0x51,
    DeviceAlarms = 0x52,

    ValidatorSet = 0x60,
    Observer = 0x61,
    Policies = 0x62,
    Proposal = 0x63,
    Protocol = 0x64,
    UsedNode = 0x65,
    ProposalDeadline = 0x66,
}
