// The types of docs/formats.md ("Types"), copied from there: a test compares the two texts.

export const TYPES = `# Genesis file
struct Genesis {
  version: u32, name: text, created_ms: u64, validators: ValidatorSet, organization: id,
  accounts: list GenesisAccount, policies: Policies,
}
struct GenesisAccount { account: id, name: text, key: key, grants: list Grant }
struct Grant { role: Role, scope: district, since_ms: u64 }
enum Role { administrator, operator, approver, vendor, security, auditor, relay }
struct Policies {
  approvals: ApprovalPolicies, newcomer_wait_ms: u64, allowances: Allowances,
  retention: Retention,
}
struct ApprovalPolicies {
  releases: ApprovalPolicy, rollouts: ApprovalPolicy, power: ApprovalPolicy,
  recovery: ApprovalPolicy, validators: ApprovalPolicy, policies: ApprovalPolicy,
  devices: ApprovalPolicy,
}
struct ApprovalPolicy { approvals: u8, expires_ms: u64 }
struct Allowances { users: Allowance, gateways: Allowance, nodes: Allowance }
struct Allowance { records: u64, bytes: u64 }
struct Retention { open_release_ms: u64, open_plan_ms: u64, ended_release_ms: u64 }

# Headers, validators, certificates
struct Header {
  version: u32, chain_id: digest, height: u64, parent: digest, timestamp_ms: u64,
  tx_root: digest, receipt_root: digest, event_root: digest, state_root: digest,
  history_root: digest, validators_hash: digest, batch: digest, position: digest,
}
struct ValidatorSet { validators: list Validator }
struct Validator { node: u64, account: id, key: key, address: text }
struct Certificate { height: u64, header: digest, signatures: list CertificateSignature }
struct CertificateSignature { key: key, signature: signature }

# Proofs
struct ProofBundle {
  version: u32, record: RecordProof, ancestor: optional Ancestor, head: CertifiedHeader,
  set_changes: list SetChange,
}
enum RecordProof {
  transaction { transaction: SignedTransaction, place: ListProof },
  receipt { receipt: bytes, place: ListProof }, event { event: bytes, place: ListProof },
  state { key: bytes, value: optional bytes, path: StateProof },
}
struct Ancestor { header: Header, path: list digest }
struct CertifiedHeader { header: Header, certificate: Certificate }
struct SetChange {
  certified: CertifiedHeader, in_force: ValidatorSet, next: ValidatorSet, path: StateProof,
}
struct ListProof { index: u64, count: u64, path: list digest }
struct StateProof { siblings: list digest, other: optional OtherLeaf }
struct OtherLeaf { key: digest, value: digest }
struct TrustedSet { chain_id: digest, height: u64, set: ValidatorSet }

# Transactions
struct SignedTransaction { encoding: Encoding, key: key, payload: bytes, signature: signature }
enum Encoding { json, bincode }
struct Transaction { sender: id, sequence: u64, expires_ms: u64, action: Action }
enum Action {
  users UsersAction, devices DevicesAction, firmware FirmwareAction, rollouts RolloutsAction,
  config ConfigAction, events EventsAction, governance GovernanceAction,
}
enum UsersAction {
  register_organization { organization: id, name: text },
  register_user { account: id, organization: id, name: text, key: key, proof: signature },
  register_gateway { account: id, organization: id, district: district, key: key, proof: signature },
  grant { account: id, role: Role, scope: district },
  revoke { account: id, role: Role, scope: district },
  add_key { key: key, label: text, proof: signature },
  rotate_key { new_key: key, proof: signature }, revoke_key { account: id, key: key },
  disable { account: id },
}
enum DevicesAction {
  register { devices: list NewDevice }, assign_gateway { device: id, gateway: optional id },
  tag { device: id, tags: list Tag }, offer_transfer { device: id, to: id },
  withdraw_transfer { device: id }, accept_transfer { device: id },
  suspend { device: id, reason: text }, resume { device: id },
  decommission { device: id, reason: text },
  report_inventory { reports: list InventoryReport },
  rotate_keys { rotations: list KeyRotation }, iot_registry { function: text, argument: text },
  link_registrant { registrant: text, organization: id },
}
struct NewDevice {
  device: id, owner: id, model: text, hardware_class: text, district: district,
  gateway: optional id, key: optional key, proof: optional signature, tags: list Tag,
}
struct Tag { name: text, value: text }
struct InventoryReport {
  device: id, version: optional version, digest: digest, security_counter: u64, counter: u64,
  signature: optional signature,
}
struct KeyRotation {
  device: id, new_key: key, proof: signature, counter: u64, signature: optional signature,
}
enum FirmwareAction {
  publish { release: SignedRelease }, approve { release: id, manifest: digest },
  deprecate { release: id, reason: text }, revoke { release: id, reason: text },
  hold_artifact { artifact: digest, size_bytes: u64 },
  drop_artifact { artifact: digest, size_bytes: u64 }, withdraw_approval { release: id },
  withdraw { release: id },
}
struct SignedRelease { manifest: bytes, key: key, signature: signature }
struct ReleaseManifest {
  release: id, vendor: id, version: version, artifact: digest, size_bytes: u64,
  hardware_classes: list text, security_counter: u64, replaces_from: optional version,
  depends_on: list id, expires_ms: optional u64, critical: bool, provenance: optional digest,
}
enum RolloutsAction {
  plan { plan: RolloutPlan }, approve { rollout: id, plan: digest },
  withdraw_approval { rollout: id }, start { rollout: id },
  pause { rollout: id, reason: text }, resume { rollout: id },
  cancel { rollout: id, reason: text }, postpone Postponement,
  report { reports: list DeploymentReport }, plan_groups { plan: GroupedPlan },
  amend { plan: GroupedPlan }, open_group { rollout: id, group: u32 },
  plan_guarded { plan: GuardedPlan }, amend_guarded { plan: GuardedPlan }, consent ConsentDecision,
}
struct RolloutPlan {
  rollout: id, release: id, selection: Selection, error_percent_max: u8, error_sample_min: u32,
  deferral: DeferralPolicy, timers: StepTimers, retries_max: u8,
}
enum Selection {
  list { devices: list id },
  filter { district: district, model: optional text, hardware_class: optional text, tag: optional text },
}
struct DeferralPolicy { count_max: u32, total_ms_max: u64 }
struct GroupedPlan {
  base: RolloutPlan, groups: list Group, limits: PauseLimits, retry: RetryPolicy,
  continuous: bool, stop_ms: optional u64,
}
struct Group { members: GroupMembers, gate: GroupGate }
enum GroupMembers {
  selected { selection: Selection }, count { count: u32 }, percent { percent: u8 }, rest,
}
struct GroupGate {
  success_percent_min: u8, sample_min: u32, soak_ms: u64, next_by_hand: bool,
}
struct PauseLimits { error_count_max: optional u32, silence_percent_max: optional u8 }
struct RetryPolicy { backoff_ms: u64, codes: list u32 }
struct GuardedPlan { plan: GroupedPlan, rules: InstallRules }
struct InstallRules { windows: list MaintenanceWindow, consent: list ConsentFrom, wait_ms_max: u64 }
struct MaintenanceWindow { schedule: text, minutes: u32, zone: text }
enum ConsentFrom { operator, owner, thing }
struct ConsentDecision { rollout: id, device: id, decision: ConsentChoice, reason: text }
enum ConsentChoice { granted { until_ms: u64 }, withdrawn, refused }
struct StepTimers { offer_ms: u64, download_ms: u64, install_ms: u64, trial_ms: u64 }
struct Postponement { rollout: id, device: id, until_ms: u64, reason: text }
struct DeploymentReport {
  rollout: id, device: id, from: DeploymentState, to: DeploymentState, code: u32,
  digest: optional digest, seen_height: u64, counter: u64, detail: text,
  signature: optional signature,
}
enum DeploymentState {
  assigned, offered, waiting_consent, postponed, waiting_window, downloading, downloaded,
  installing, staged, trial, confirmed, reverted, failed, rejected, timed_out, cancelled,
  superseded, removed, not_needed,
}
enum ConfigAction {
  set_desired { target: ConfigTarget, document: text, replaces_version: u64 },
  report { reports: list ConfigReport },
}
enum ConfigTarget {
  fleet, model { model: text }, district { district: district }, device { device: id },
}
struct ConfigReport {
  device: id, document: digest, applied: bool, detail: text, counter: u64,
  signature: optional signature,
}
enum EventsAction {
  append { events: list DeviceEvent }, acknowledge { alarm: AlarmId, comment: text },
  clear { alarm: AlarmId, comment: text },
}
struct DeviceEvent {
  device: id, sequence: u64, time_ms: u64, kind: text, severity: Severity, alarm: AlarmChange,
  data: text, signature: optional signature,
}
enum Severity { critical, major, minor, warning, indeterminate }
enum AlarmChange { none, raise, clear }
struct AlarmId { device: id, sequence: u64 }
enum GovernanceAction {
  propose { proposal: id, changes: list GovernanceChange },
  approve { proposal: id, changes: digest }, withdraw { proposal: id },
}
enum GovernanceChange {
  add_validator { validator: Validator, proof: signature }, remove_validator { node: u64 },
  add_observer { observer: Observer, proof: signature }, remove_observer { node: u64 },
  set_policies { policies: Policies }, set_protocol { version: u32, from_height: u64 },
  register_user { account: id, organization: id, name: text, key: key, proof: signature },
  grant { account: id, role: Role, scope: district },
  revoke { account: id, role: Role, scope: district }, disable { account: id },
  enable { account: id }, recover { account: id, new_key: key, proof: signature },
  reset_device { device: id, counters: DeviceCounters },
  replace_device_key { device: id, key: key, proof: signature }, reuse_hardware { device: id },
}
struct Observer { node: u64, account: id, key: key, address: text }
struct DeviceCounters {
  report_counter: optional u64, security_counter: optional u64, event_sequence: optional u64,
}

# Receipts
struct Receipt { transaction: digest, outcome: Outcome, notifications: list Notification }
enum Outcome { succeeded, failed { code: text, fields: map } }
struct Notification { place: optional Place, fact: Fact }
struct Place { device: id, district: district, gateway: optional id }
enum Fact {
  organization_registered { organization: id }, account_registered { account: id },
  role_granted { account: id, role: Role, scope: district },
  role_revoked { account: id, role: Role, scope: district },
  key_added { account: id, key: key }, key_revoked { account: id, key: key },
  account_disabled { account: id }, account_enabled { account: id },
  account_recovered { account: id }, device_registered,
  device_assigned { gateway: optional id }, device_tagged, transfer_offered { to: id },
  transfer_withdrawn, transfer_accepted { owner: id }, device_suspended { reason: text },
  device_resumed, device_decommissioned { reason: text },
  device_reset { counters: DeviceCounters }, device_key_replaced { key: key },
  hardware_released, inventory_reported { digest: digest },
  device_drifted { expected: digest, running: digest },
  registrant_created { registrant: text }, thing_registered { nonce: text },
  spec_registered { spec: text }, registrant_linked { registrant: text, organization: id },
  release_published { release: id, artifact: digest },
  release_approved { release: id, by: id }, release_approval_withdrawn { release: id, by: id },
  release_released { release: id }, release_withdrawn { release: id },
  release_lapsed { release: id }, release_deprecated { release: id },
  release_revoked { release: id, reason: text },
  artifact_held { artifact: digest, node: u64, holders: u32 },
  artifact_dropped { artifact: digest, node: u64 }, rollout_planned { rollout: id },
  rollout_approved { rollout: id, by: id }, rollout_approval_withdrawn { rollout: id, by: id },
  rollout_lapsed { rollout: id }, rollout_started { rollout: id },
  rollout_paused { rollout: id, reason: text }, rollout_resumed { rollout: id },
  rollout_stopped { rollout: id }, rollout_finished { rollout: id },
  deployment_moved { rollout: id, from: optional DeploymentState, to: DeploymentState, attested: bool, code: u32 },
  desired_set { target: ConfigTarget, version: u64 },
  config_reported { document: digest, applied: bool },
  event_appended { kind: text, severity: Severity, sequence: u64, attested: bool },
  event_gap_seen { first: u64, last: u64 },
  alarm_raised { alarm: AlarmId, kind: text, severity: Severity },
  alarm_cleared { alarm: AlarmId }, alarm_acknowledged { alarm: AlarmId, by: id },
  alarm_evicted { alarm: AlarmId },
  alarm_not_raised { alarm: AlarmId, kind: text, severity: Severity },
  change_proposed { proposal: id }, change_approved { proposal: id, by: id },
  approval_withdrawn { proposal: id, by: id }, proposal_withdrawn { proposal: id },
  proposal_expired { proposal: id }, proposal_carried_out { proposal: id },
  validator_added { validator: Validator }, validator_removed { node: u64 },
  observer_added { node: u64 }, observer_removed { node: u64 }, policies_set,
  protocol_set { version: u32, from_height: u64 },
  rollout_stopping { rollout: id, reason: text },
  deployment_skipped { rollout: id, reason: SkipReason },
  report_refused { rollout: id, to: DeploymentState, counter: u64, code: text },
  message_refused { message: MessageKind, device: id, number: u64, code: text },
  rollout_amended { rollout: id }, group_opened { rollout: id, group: u32 },
  group_ready { rollout: id, group: u32 }, device_runs_revoked { release: id },
  revocation_traced { release: id, devices: u64 },
  consent_decided { rollout: id, decision: ConsentChoice, by_thing: bool },
}
enum MessageKind { event, inventory, config }
enum SkipReason {
  not_active, no_gateway, hardware_class, busy, security_counter, running_version, dependency,
  release_expired,
}

# Events of blocks
struct EventRecord { event: DeviceEvent, gateway: id, attested: bool, received_ms: u64 }

# Records of the state
struct Organization { organization: id, name: text, registered_height: u64 }
struct Account {
  account: id, kind: AccountKind, organization: id, name: text, district: district,
  keys: list AccountKey, grants: list Grant, disabled: bool, registered_height: u64,
}
enum AccountKind { user, gateway, node }
struct AccountKey { key: key, label: text }
struct KeyRecord { account: id, revoked: bool }
struct ReplayWindow { highest: u64, used: sixteen u64 }
struct AllowanceUse { day: u64, records: u64, bytes: u64 }
struct Device {
  device: id, owner: id, offered_to: optional id, model: text, hardware_class: text,
  district: district, gateway: optional id, key: optional key, tags: list Tag,
  status: DeviceStatus, registered_height: u64,
}
enum DeviceStatus { active, suspended, decommissioned }
struct DeviceState {
  version: optional version, release: optional id, digest: optional digest,
  security_counter: u64, report_counter: u64, drifted: bool, active_rollout: optional id,
  confirmed: list id, key_rotations: u32,
}
struct RegistrantLink { organization: id }
struct Release {
  manifest: ReleaseManifest, signed: SignedRelease, manifest_digest: digest,
  status: ReleaseStatus, author: id, organization: id, approvals: list Approval, reason: text,
  published_height: u64, published_ms: u64, released_ms: optional u64, ended_ms: optional u64,
}
enum ReleaseStatus { signed, released, deprecated, revoked }
struct Approval { account: id, key: key, at_ms: u64 }
struct Artifact { digest: digest, size_bytes: u64, releases: u32, holders: list u64 }
struct Rollout {
  plan: RolloutPlan, plan_digest: digest, status: RolloutStatus, author: id, organization: id,
  approvals: list Approval, reason: text, counts: RolloutCounts,
  counts_at_resume: RolloutCounts, districts: list district, cursor: optional id,
  expanded: bool, sweep: optional id, swept: bool, planned_height: u64, planned_ms: u64,
  started_ms: optional u64, status_height: u64,
}
enum RolloutStatus {
  pending_approval, approved, running, paused, paused_by_errors, stopping, stopped, finished,
}
struct RolloutCounts {
  assigned: u64, active: u64, confirmed: u64, failed: u64, other: u64, skipped: u64,
}
enum RolloutWork { nothing, expand, sweep }
struct RolloutGroups {
  rollout: id, groups: list GroupRecord, opened: u32, late: u64, too_late: u64,
  due_ms: optional u64,
}
struct GroupRecord {
  status: GroupStatus, counts: GroupCounts, counts_at_resume: GroupCounts,
  opened_height: optional u64, opened_ms: optional u64, soaking_since_ms: optional u64,
}
struct GroupCounts { deployments: RolloutCounts, timed_out: u64 }
enum GroupStatus { waiting, running, soaking, ready, passed, failed }
struct RevocationSweep { release: id, after: optional id, found: u64 }
struct InstallRecord {
  rollout: id, device: id, wait_until_ms: optional u64, consent: optional Consent, granted: u32,
  withdrawn: u32, refused: u32, postponed_by_thing: u32,
}
struct Consent { by: id, by_thing: bool, granted_ms: u64, until_ms: u64 }
struct Deployment {
  rollout: id, device: id, release: id, state: DeploymentState, assigned_height: u64,
  steps: list DeploymentStep, retries: u8, postponed_count: u32,
  postponed_until_ms: optional u64, postponed_from: optional DeploymentState,
  first_offered_ms: optional u64, deadline_ms: optional u64,
}
struct DeploymentStep {
  to: DeploymentState, height: u64, time_ms: u64, by: optional id, attested: bool, code: u32,
  detail: text,
}
struct DesiredConfig {
  target: ConfigTarget, document: text, version: u64, author: id, height: u64,
}
struct ReportedConfig {
  device: id, document: digest, applied: bool, detail: text, attested: bool, height: u64,
}
struct EventCursor { highest: u64, count: u64, gaps: list EventGap }
struct EventGap { first: u64, last: u64 }
struct Alarm {
  alarm: AlarmId, kind: text, severity: Severity, raised_ms: u64, cleared_ms: optional u64,
  cleared_by: optional id, acknowledged: optional Acknowledgement,
}
struct Acknowledgement { by: id, comment: text, time_ms: u64 }
struct DeviceAlarms { kinds: list AlarmKind, unacknowledged: list u64 }
struct AlarmKind { kind: text, changed: u64, active: optional u64 }
struct Proposal {
  proposal: id, changes: list GovernanceChange, digest: digest, author: id,
  approvals: list Approval, proposed_height: u64, expires_ms: u64,
}
struct Protocol { version: u32, next: optional (u32, u64) }

# Keys of the state
key 01 organization { organization: id }: Organization
key 02 account { account: id }: Account
key 03 key { key: key }: KeyRecord
key 04 replay_window { key: key }: ReplayWindow
key 05 approver { account: id }: id
key 06 administrator { account: id }: id
key 07 allowance_use { account: id }: AllowanceUse
key 10 device { device: id }: Device
key 11 device_state { device: id }: DeviceState
key 12 device_by_gateway { gateway: id, device: id }: id
key 13 device_by_district { district: district, device: id }: id
key 14 device_by_owner { owner: id, device: id }: id
key 15 device_by_key { key: key }: id
key 16 iot_registry { key: bytes }: bytes
key 17 registrant_link { registrant: text }: RegistrantLink
key 20 release { release: id }: Release
key 21 artifact { digest: digest, size_bytes: u64 }: Artifact
key 22 release_by_artifact { digest: digest, release: id }: id
key 23 open_release { organization: id, release: id }: id
key 30 rollout { rollout: id }: Rollout
key 31 deployment { rollout: id, device: id }: Deployment
key 32 deployment_by_device { device: id, height: u64, rollout: id }: id
key 33 deployment_timer { deadline_ms: u64, rollout: id, device: id }: (u64, id, id)
key 34 running_rollout { rollout: id }: (id, RolloutWork)
key 35 open_plan { organization: id, rollout: id }: id
key 36 grouped_plan { rollout: id }: GroupedPlan
key 37 rollout_groups { rollout: id }: RolloutGroups
key 38 late_device { rollout: id, device: id }: id
key 39 rollout_timer { deadline_ms: u64, rollout: id }: (u64, id)
key 3a continuous_rollout { rollout: id }: id
key 3b revocation_sweep { release: id }: RevocationSweep
key 3c install_rules { rollout: id }: InstallRules
key 3d install_record { rollout: id, device: id }: InstallRecord
key 40 desired_config { target: ConfigTarget }: DesiredConfig
key 41 reported_config { device: id }: ReportedConfig
key 50 event_cursor { device: id }: EventCursor
key 51 alarm { device: id, sequence: u64 }: Alarm
key 52 device_alarms { device: id }: DeviceAlarms
key 60 validator_set: ValidatorSet
key 61 observer { node: u64 }: Observer
key 62 policies: Policies
key 63 proposal { proposal: id }: Proposal
key 64 protocol: Protocol
key 65 used_node { node: u64 }: id
key 66 proposal_deadline { deadline_ms: u64, proposal: id }: id
`;
