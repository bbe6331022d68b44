use lamplighter_types::{Hash, Id};

use crate::refusal::refusals;
use crate::validate::FieldError;

refusals! {
    /// Why the governance contract refuses an action.
    pub enum GovernanceError [Field(FieldError)] {
        Address(address: String) = "governance.address",
            "{address} is not host:port";
        Policies(policy: String) = "governance.policies",
            "{policy} is out of its range";
        ProposalExists(proposal: Id) = "governance.proposal_exists",
            "there is a proposal {proposal} already";
        UnknownProposal(proposal: Id) = "governance.unknown_proposal",
            "there is no proposal {proposal}";
        OtherChange { proposal: Id, digest: Hash } = "governance.other_change",
            "the changes of proposal {proposal} have the digest {digest}";
        Expired(proposal: Id) = "governance.expired",
            "proposal {proposal} has expired";
        Interested(account: Id) = "governance.interested",
            "{account} would get power by this proposal, so its own approval does not count";
        NotApproved { account: Id, proposal: Id } = "governance.not_approved",
            "{account} has not approved proposal {proposal}";
        TooManyOfAuthor(account: Id) = "governance.too_many_of_author",
            "{account} has 8 open proposals, which is the most";
        TooManyProposals = "governance.too_many_proposals",
            "there are 128 open proposals, which is the most";
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
        ProtocolStep(version: u32) = "governance.protocol_step",
            "the protocol version in force is {version}, and only the next one can follow it";
    }
}
