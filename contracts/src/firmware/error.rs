use lamplighter_types::{Hash, Id, PublicKey, Scope};

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the firmware contract refuses an action.
    pub enum FirmwareError [Field(FieldError)] {
        Manifest = "firmware.manifest",
            "the release can't be read";
        Size(size_bytes: u64) = "firmware.size",
            "an artifact has 1 to 268435456 bytes, not {size_bytes}";
        SecurityCounter(security_counter: u64) = "firmware.security_counter",
            "a security counter is below 2^32, not {security_counter}";
        DependsOnItself(release: Id) = "firmware.depends_on_itself",
            "the release {release} depends on itself";
        Signature = "firmware.signature",
            "the release is not signed by its vendor";
        NotPublisher { account: Id, vendor: Id } = "firmware.not_publisher",
            "{account} is neither the vendor {vendor} nor an operator";
        UnknownVendor(account: Id) = "firmware.unknown_vendor",
            "there is no account {account}";
        NotVendor(account: Id) = "firmware.not_vendor",
            "{account} has not the role of a vendor, or is disabled";
        ForeignKey { vendor: Id, key: PublicKey } = "firmware.foreign_key",
            "{key} is not a key in use of {vendor}";
        KeyRevoked(key: PublicKey) = "firmware.key_revoked",
            "the vendor's key {key} was revoked";
        Exists(release: Id) = "firmware.exists",
            "there is a release {release} already";
        Unknown(release: Id) = "firmware.unknown_release",
            "there is no release {release}";
        UnknownDependency(release: Id) = "firmware.unknown_dependency",
            "there is no release {release} to depend on";
        Expired(release: Id) = "firmware.expired",
            "the release {release} has expired";
        SizeMismatch { artifact: Hash, known_bytes: u64, size_bytes: u64 }
            = "firmware.size_mismatch",
            "the artifact {artifact} is known to have {known_bytes} bytes, not {size_bytes}";
        UnknownArtifact { artifact: Hash, size_bytes: u64 } = "firmware.unknown_artifact",
            "no release has the artifact {artifact} with {size_bytes} bytes";
        TooManyOpen(organization: Id) = "firmware.too_many_open",
            "{organization} has 16 open releases, which is the most";
        Lapsed(release: Id) = "firmware.lapsed",
            "the release {release} was not approved in time";
        NotApproved { release: Id, got: usize, wanted: usize } = "firmware.not_approved",
            "{got} approvals of the release {release} count now, it needs {wanted}";
        TooManyApprovals(release: Id) = "firmware.too_many_approvals",
            "the release {release} has the most approvals that are kept";
        NoApproval(account: Id) = "firmware.no_approval",
            "{account} has not approved this release";
        VendorElsewhere { vendor: Id, district: Scope } = "firmware.vendor_elsewhere",
            "{vendor} is no vendor of {district}, or is disabled";
        NotPending(release: Id) = "firmware.not_pending",
            "the release {release} is not waiting for approval";
        SelfApproval(account: Id) = "firmware.own_release",
            "{account} published the release or is its vendor, so it can't approve it";
        Approved(account: Id) = "firmware.approved",
            "{account} has approved this release already";
        OtherManifest { published: Hash, looked_at: Hash } = "firmware.other_manifest",
            "the published manifest is {published}, not {looked_at}";
        NotHeld { holders: usize, quorum: usize } = "firmware.not_held",
            "{holders} validators hold the artifact, a quorum has {quorum}";
        NotReleased(release: Id) = "firmware.not_released",
            "the release {release} is not released";
        Revoked(release: Id) = "firmware.revoked",
            "the release {release} was revoked already";
        NotInCharge(account: Id) = "firmware.not_in_charge",
            "{account} is neither the vendor nor does it have the role for this";
        NotValidator(account: Id) = "firmware.not_validator",
            "{account} is not a validator in force";
    }
}
