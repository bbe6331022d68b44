//! What an account may read: the one place that decides it, for HTTP, the feed, proofs and MQTT.
//!
//! A record belongs to a kind, and an account has classes by its roles. [`reach`] is the table of
//! both; an account reads a record if one of its classes reaches it. Existence is no secret: ids
//! are in receipts and in the names of other records, so a record outside is refused with 403
//! `read.scope`, and a record that does not exist is 404.

mod concern;
mod record;
mod table;
#[cfg(test)]
mod tests;

use std::sync::OnceLock;

use lamplighter_contracts::{devices, firmware, rollouts, users};
use lamplighter_state::{StateError, View};
use lamplighter_types::filter::{DeviceField, FieldValue, Filter};
use lamplighter_types::{Account, AccountKind, Device, Fact, Id, Notification, Role, Scope};

pub use concern::Concern;
pub use record::Record;
pub use table::{Class, Kind, Reach, kind_of, reach, sentence, to_markdown};

/// The rights of an account at a height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rights {
    /// None where reading needs no token.
    account: Option<Id>,
    classes: Vec<Class>,
    /// The districts of [`Class::District`].
    districts: Vec<Scope>,
}

impl Rights {
    /// The rights of everybody at a node where reading needs no token.
    pub fn everything() -> Self {
        Self {
            account: None,
            classes: vec![Class::Everything],
            districts: Vec::new(),
        }
    }

    pub fn of(account: &Account) -> Self {
        let mut rights = Self {
            account: Some(account.account.clone()),
            classes: vec![Class::Account],
            districts: Vec::new(),
        };
        match account.kind {
            // It has the whole ledger anyway.
            AccountKind::Node => rights.classes.push(Class::Everything),
            AccountKind::Gateway => rights.classes.push(Class::Gateway),
            AccountKind::User => {}
        }
        for grant in &account.grants {
            match grant.role {
                Role::Administrator | Role::Auditor | Role::Security
                    if grant.scope == Scope::city() =>
                {
                    rights.classes.push(Class::Everything);
                }
                Role::Administrator
                | Role::Auditor
                | Role::Security
                | Role::Operator
                | Role::Approver => {
                    rights.classes.push(Class::District);
                    rights.districts.push(grant.scope.clone());
                }
                Role::Vendor => rights.classes.push(Class::Vendor),
                Role::Relay => {}
            }
        }
        rights
    }

    pub fn is_everything(&self) -> bool {
        self.classes.contains(&Class::Everything)
    }

    /// The districts whose device notifications the account reads.
    pub fn districts(&self) -> Vec<Scope> {
        if self.is_everything() {
            vec![Scope::city()]
        } else {
            self.districts.clone()
        }
    }

    /// The gateway whose devices have to be looked at before records of a kind are decided.
    pub fn gateway_for(&self, kind: Kind) -> Option<&Id> {
        let looks = matches!(kind, Kind::Release | Kind::Rollout | Kind::Config);
        let is_gateway = self.classes.contains(&Class::Gateway) && !self.is_everything();
        self.account.as_ref().filter(|_| looks && is_gateway)
    }

    /// True for operators of the whole city as well.
    pub fn reads_all_devices(&self) -> bool {
        self.reaches(Kind::Device).any(|reach| match reach {
            Reach::All => true,
            Reach::Districts => self.covers(&Scope::city()),
            Reach::Account | Reach::Devices | Reach::Nothing => false,
        })
    }

    /// True if no record of a kind is for the account.
    pub fn reads_nothing(&self, kind: Kind) -> bool {
        self.reaches(kind).all(|reach| reach == Reach::Nothing)
    }

    fn reaches(&self, kind: Kind) -> impl Iterator<Item = Reach> {
        self.classes.iter().map(move |class| reach(*class, kind))
    }

    /// Answers about the records of one state.
    pub fn at<'a>(&'a self, view: &'a View) -> RightsAt<'a> {
        RightsAt {
            rights: self,
            view,
            concern: OnceLock::new(),
        }
    }

    fn covers(&self, district: &Scope) -> bool {
        self.districts
            .iter()
            .any(|granted| granted.covers(district))
    }

    /// True if the districts share a place, one of which holds the other.
    fn meets(&self, district: &Scope) -> bool {
        let meets = |granted: &Scope| granted.covers(district) || district.covers(granted);
        self.districts.iter().any(meets)
    }

    fn is(&self, account: &Id) -> bool {
        self.account.as_ref() == Some(account)
    }
}

/// The rights of an account, with the state in which records are looked up.
pub struct RightsAt<'a> {
    rights: &'a Rights,
    view: &'a View,
    /// What concerns the gateway, looked up once.
    concern: OnceLock<Concern>,
}

impl RightsAt<'_> {
    pub fn rights(&self) -> &Rights {
        self.rights
    }

    /// True if the account may read a record.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn allows(&self, record: &Record<'_>) -> Result<bool, StateError> {
        for class in &self.rights.classes {
            let allowed = match reach(*class, record.kind()) {
                Reach::All => true,
                Reach::Nothing => false,
                Reach::Districts => self.is_in_districts(record)?,
                Reach::Account => self.is_of_account(record)?,
                Reach::Devices => self.concerns_gateway(record)?,
            };
            if allowed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True if the account may read a notification: it is about a device or a record that the
    /// account may read.
    ///
    /// # Errors
    /// The state can't be read.
    pub fn allows_notification(&self, notification: &Notification) -> Result<bool, StateError> {
        let Some(place) = &notification.place else {
            let record = Record::of_fact(&notification.fact);
            return self.allows(&record);
        };
        // Where the device was at the time decides, not where it is now.
        let gateway = place.gateway.as_ref().is_some_and(|g| self.rights.is(g));
        let former = match &notification.fact {
            Fact::DeviceAssigned { gateway } => gateway.as_ref().is_some_and(|g| self.rights.is(g)),
            _ => false,
        };
        Ok(self
            .rights
            .classes
            .iter()
            .any(|class| match reach(*class, Kind::Device) {
                Reach::All => true,
                Reach::Districts => self.rights.covers(&place.district),
                Reach::Devices => gateway || former,
                Reach::Account | Reach::Nothing => false,
            }))
    }

    /// A filter for exactly the devices that the account may read; none if it reads all.
    pub fn device_filter(&self) -> Option<Filter> {
        if self.rights.reads_all_devices() {
            return None;
        }
        let mut parts = Vec::new();
        for class in &self.rights.classes {
            match reach(*class, Kind::Device) {
                Reach::Districts => parts.extend(self.rights.districts.iter().map(|district| {
                    Filter::equal(
                        DeviceField::District,
                        FieldValue::District(district.clone()),
                    )
                })),
                Reach::Devices => parts.extend(self.rights.account.iter().map(|account| {
                    let gateway = FieldValue::Text(account.to_string());
                    Filter::equal(DeviceField::Gateway, gateway)
                })),
                Reach::All | Reach::Account | Reach::Nothing => {}
            }
        }
        Some(Filter::Any(parts))
    }

    fn device(&self, id: &Id) -> Result<Option<Device>, StateError> {
        devices::device(self.view, id)
    }

    fn is_in_districts(&self, record: &Record<'_>) -> Result<bool, StateError> {
        let rights = self.rights;
        Ok(match record {
            Record::Device(device) => rights.covers(&device.district),
            // What does not exist is 404 to those who read the whole city.
            Record::DeviceNamed(_) if rights.covers(&Scope::city()) => true,
            Record::DeviceNamed(id) => {
                let district = self.device(id)?.map(|device| device.district);
                rights.covers(&district.unwrap_or_else(Scope::city))
            }
            Record::Account(account) => {
                account.kind == AccountKind::Gateway && rights.covers(&account.district)
            }
            Record::AccountNamed(id) => match users::account(self.view, id)? {
                Some(account) => self.is_in_districts(&Record::Account(&account))?,
                None => rights.covers(&Scope::city()),
            },
            Record::Rollout(rollout) => self.selects_from_districts(rollout)?,
            Record::RolloutNamed(id) => match rollouts::rollout(self.view, id)? {
                Some(rollout) => self.selects_from_districts(&rollout)?,
                None => rights.covers(&Scope::city()),
            },
            Record::Config(target) => self.configures_districts(target)?,
            Record::Common
            | Record::Block
            | Record::Governance
            | Record::Sessions(_)
            | Record::Transaction { .. }
            | Record::Release(_)
            | Record::ReleaseNamed(_) => false,
        })
    }

    fn is_of_account(&self, record: &Record<'_>) -> Result<bool, StateError> {
        let rights = self.rights;
        let release_is_of_account = |id: &Id| -> Result<bool, StateError> {
            let release = firmware::release(self.view, id)?;
            Ok(release.is_some_and(|r| rights.is(&r.manifest.vendor) || rights.is(&r.author)))
        };
        match record {
            Record::Transaction { sender } => Ok(rights.is(sender)),
            Record::Account(account) => Ok(rights.is(&account.account)),
            Record::AccountNamed(id) | Record::Sessions(id) => Ok(rights.is(id)),
            Record::Release(release) => {
                Ok(rights.is(&release.manifest.vendor) || rights.is(&release.author))
            }
            Record::ReleaseNamed(id) => release_is_of_account(id),
            Record::Rollout(rollout) => release_is_of_account(&rollout.plan.release),
            Record::RolloutNamed(id) => match rollouts::rollout(self.view, id)? {
                Some(rollout) => release_is_of_account(&rollout.plan.release),
                None => Ok(false),
            },
            Record::Common
            | Record::Block
            | Record::Governance
            | Record::Device(_)
            | Record::DeviceNamed(_)
            | Record::Config(_) => Ok(false),
        }
    }
}
