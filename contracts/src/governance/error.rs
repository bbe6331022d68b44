use lamplighter_types::limits::{
    APPROVALS_MAX, PROPOSALS_MAX, PROPOSALS_PER_AUTHOR_MAX, VALIDATORS_MAX,
};
use lamplighter_types::{Hash, Id, PolicyError};

use super::OBSERVERS_MAX;
use crate::ContractError;
use crate::validate::FieldError;

/// Why the governance contract refuses an action.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum GovernanceError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("{0:?} is not host:port")]
    Address(String),
    #[error(transparent)]
    Policies(#[from] PolicyError),
    #[error("there is a proposal {0} already")]
    ProposalExists(Id),
    #[error("there is no proposal {0}")]
    UnknownProposal(Id),
    #[error("the changes of proposal {proposal} have the digest {digest}")]
    OtherChange { proposal: Id, digest: Hash },
    #[error("proposal {0} has expired")]
    Expired(Id),
    #[error("{0} would get power by this proposal, so its own approval does not count")]
    Interested(Id),
    #[error("{account} has not approved proposal {proposal}")]
    NotApproved { account: Id, proposal: Id },
    #[error("{0} has {PROPOSALS_PER_AUTHOR_MAX} open proposals, which is the most")]
    TooManyOfAuthor(Id),
    #[error("there are {PROPOSALS_MAX} open proposals, which is the most")]
    TooManyProposals,
    #[error("{account} approved proposal {proposal} already")]
    Approved { account: Id, proposal: Id },
    #[error("{APPROVALS_MAX} approvals have been given, which is the most")]
    TooManyApprovals,
    #[error("the node id {0} is or was in use")]
    NodeUsed(u64),
    #[error("there is no validator with the node id {0}")]
    UnknownValidator(u64),
    #[error("there is no observer with the node id {0}")]
    UnknownObserver(u64),
    #[error("the last validator can't be removed")]
    LastValidator,
    #[error("there are {VALIDATORS_MAX} validators, which is the most")]
    TooManyValidators,
    #[error("there are {OBSERVERS_MAX} observers, which is the most")]
    TooManyObservers,
    #[error("the protocol version in force is {0}, a proposal must be above it")]
    OldProtocol(u32),
    #[error("the height is {0} already")]
    PastHeight(u64),
}

impl ContractError for GovernanceError {
    fn code(&self) -> &'static str {
        match self {
            Self::Field(error) => error.code(),
            Self::Address(_) => "governance.address",
            Self::Policies(_) => "governance.policies",
            Self::ProposalExists(_) => "governance.proposal_exists",
            Self::UnknownProposal(_) => "governance.unknown_proposal",
            Self::OtherChange { .. } => "governance.other_change",
            Self::Expired(_) => "governance.expired",
            Self::Interested(_) => "governance.interested",
            Self::NotApproved { .. } => "governance.not_approved",
            Self::TooManyOfAuthor(_) => "governance.too_many_of_author",
            Self::TooManyProposals => "governance.too_many_proposals",
            Self::Approved { .. } => "governance.approved",
            Self::TooManyApprovals => "governance.too_many_approvals",
            Self::NodeUsed(_) => "governance.node_used",
            Self::UnknownValidator(_) => "governance.unknown_validator",
            Self::UnknownObserver(_) => "governance.unknown_observer",
            Self::LastValidator => "governance.last_validator",
            Self::TooManyValidators => "governance.too_many_validators",
            Self::TooManyObservers => "governance.too_many_observers",
            Self::OldProtocol(_) => "governance.old_protocol",
            Self::PastHeight(_) => "governance.past_height",
        }
    }
}
