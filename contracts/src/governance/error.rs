use lamplighter_types::{Hash, Id};

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the governance contract refuses an action.
    pub enum GovernanceError [Field(FieldError)] {
        Address(address: String) = "governance.address",
            "{address} is not host:port";
        Policies = "governance.policies",
            "every policy is a number from 1 to 16";
        ProposalExists(proposal: Id) = "governance.proposal_exists",
            "there is a proposal {proposal} already";
        UnknownProposal(proposal: Id) = "governance.unknown_proposal",
            "there is no proposal {proposal}";
        OtherChange { proposal: Id, digest: Hash } = "governance.other_change",
            "the change of proposal {proposal} has the digest {digest}";
        CarriedOut(proposal: Id) = "governance.carried_out",
            "proposal {proposal} was carried out already";
        Approved { account: Id, proposal: Id } = "governance.approved",
            "{account} approved proposal {proposal} already";
        TooManyApprovals = "governance.too_many_approvals",
            "16 approvals have been given, which is the most";
        NodeUsed(node: u64) = "governance.node_used",
            "the node id {node} is or was in use";
        UnknownValidator(node: u64) = "governance.unknown_validator",
            "there is no validator with the node id {node}";
        UnknownObserver(node: u64) = "governance.unknown_observer",
            "there is no observer with the node id {node}";
        LastValidator = "governance.last_validator",
            "the last validator can't be removed";
        TooManyValidators = "governance.too_many_validators",
            "there are 31 validators, which is the most";
        TooManyObservers = "governance.too_many_observers",
            "there are 64 observers, which is the most";
        OldProtocol(version: u32) = "governance.old_protocol",
            "the protocol version in force is {version}, a proposal must be above it";
        PastHeight(height: u64) = "governance.past_height",
            "the height is {height} already";
    }
}
