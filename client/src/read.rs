//! Reads, one method for each resource.

use lamplighter_types::proof::CertifiedHeader;
use lamplighter_types::wire::{
    DeviceConfig, DeviceEvents, DeviceSummary, Exposure, FullBlock, KeyInfo, Page,
    ProposalStanding, RecordResponse, Status, TimelineEntry, header,
};
use lamplighter_types::{
    Account, Alarm, Certificate, ConfigTarget, Deployment, DesiredConfig, Device, DeviceState,
    Genesis, GroupedPlan, Hash, Header, Id, InstallRecord, InstallRules, Organization, PublicKey,
    Release, Rollout, RolloutGroups, Scope,
};
use serde::de::DeserializeOwned;

use crate::Client;
use crate::calls::{Call, NodeResponse};
use crate::error::ClientError;

/// Largest block that is read: a full batch (2 MiB) in hexadecimal, its receipts, and its actions
/// in JSON, where a byte of text can take six.
const BLOCK_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A value, and the height of the state that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    pub value: T,
    pub height: u64,
}

/// A filter of the list of devices; all parts have to match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceFilter {
    pub gateway: Option<Id>,
    pub district: Option<Scope>,
    pub owner: Option<Id>,
    /// A filter in RSQL ([`Filter`](lamplighter_types::filter::Filter)).
    pub text: Option<String>,
}

impl DeviceFilter {
    fn query(&self) -> [(&'static str, Option<&str>); 4] {
        [
            ("gateway", self.gateway.as_ref().map(Id::as_str)),
            ("district", self.district.as_ref().map(Scope::as_str)),
            ("owner", self.owner.as_ref().map(Id::as_str)),
            ("filter", self.text.as_deref()),
        ]
    }
}

/// What devices are exposed to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExposureTo {
    /// A release that they run.
    Release(Id),
    /// A configuration document that they reported, by its blake3.
    Config(Hash),
}

impl Client {
    /// Any resource, by its path from `/v1` on.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Read<T>, ClientError> {
        self.read_call(Call::get(path)).await
    }

    async fn read_call<T: DeserializeOwned>(&self, call: Call) -> Result<Read<T>, ClientError> {
        let read = async |answer: NodeResponse| {
            Ok(Read {
                value: answer.json()?,
                height: answer.number(header::LEDGER_HEIGHT).unwrap_or(0),
            })
        };
        Box::pin(self.call_checked(call, read)).await
    }

    /// One record. Nodes put its last change beside it.
    async fn record<T: DeserializeOwned>(&self, path: &str) -> Result<Read<T>, ClientError> {
        let Read { value, height } = self.get::<RecordResponse<T>>(path).await?;
        Ok(Read {
            value: value.record,
            height,
        })
    }

    async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
    ) -> Result<Read<Page<T>>, ClientError> {
        let parameters = query.iter().filter_map(|(name, value)| {
            let value = escape((*value)?);
            Some(format!("{name}={value}"))
        });
        let parameters: Vec<_> = parameters.collect();
        self.get(&format!("{path}?{}", parameters.join("&"))).await
    }

    /// The state of a node and of its copy of the chain.
    pub async fn status(&self) -> Result<Status, ClientError> {
        Ok(self.get("/v1/status").await?.value)
    }

    /// The genesis file as a node has it. Trusting it means trusting that node.
    pub async fn fetch_genesis(&self) -> Result<Genesis, ClientError> {
        Ok(self.get("/v1/genesis").await?.value)
    }

    pub async fn block(&self, height: u64) -> Result<FullBlock, ClientError> {
        let call = Call::get(format!("/v1/blocks/{height}")).answer_bytes_max(BLOCK_BYTES_MAX);
        let read = async |answer: NodeResponse| answer.json();
        self.call_checked(call, read).await
    }

    /// A header; the newest one without a height.
    pub async fn header(&self, height: Option<u64>) -> Result<Header, ClientError> {
        Ok(self
            .get(&format!("/v1/headers/{}", or_latest(height)))
            .await?
            .value)
    }

    /// A certificate; the newest one without a height.
    pub async fn certificate(&self, height: Option<u64>) -> Result<Certificate, ClientError> {
        Ok(self
            .get(&format!("/v1/certificates/{}", or_latest(height)))
            .await?
            .value)
    }

    /// The newest certificate with its header, unchecked.
    pub async fn certified_head(&self) -> Result<CertifiedHeader, ClientError> {
        let certificate = self.certificate(None).await?;
        let header = self.header(Some(certificate.height)).await?;
        Ok(CertifiedHeader {
            header,
            certificate,
        })
    }

    pub async fn key(&self, key: &PublicKey) -> Result<Read<KeyInfo>, ClientError> {
        self.read_call(key_call(key)).await
    }

    pub async fn user(&self, account: &Id) -> Result<Read<Account>, ClientError> {
        self.record(&format!("/v1/users/{account}")).await
    }

    pub async fn users(&self, after: Option<&str>) -> Result<Read<Page<Account>>, ClientError> {
        self.page("/v1/users", &[("after", after)]).await
    }

    pub async fn organization(&self, name: &Id) -> Result<Read<Organization>, ClientError> {
        self.record(&format!("/v1/organizations/{name}")).await
    }

    pub async fn device(&self, device: &Id) -> Result<Read<Device>, ClientError> {
        self.record(&format!("/v1/devices/{device}")).await
    }

    /// The firmware and the counters of a device.
    pub async fn device_state(&self, device: &Id) -> Result<Read<DeviceState>, ClientError> {
        self.record(&format!("/v1/devices/{device}/state")).await
    }

    /// Devices, after the device `after`.
    pub async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Read<Page<Device>>, ClientError> {
        let limit = limit.to_string();
        let place = [("after", after), ("limit", Some(limit.as_str()))];
        let query = [&filter.query()[..], &place].concat();
        self.page("/v1/devices", &query).await
    }

    /// Devices with what they run, their active alarms and when they were last seen, after the
    /// device `after`. A page may be empty while its `next` leads on.
    pub async fn device_summaries(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Read<Page<DeviceSummary>>, ClientError> {
        let limit = limit.to_string();
        let place = [("after", after), ("limit", Some(limit.as_str()))];
        let query = [&filter.query()[..], &place].concat();
        self.page("/v1/reports/devices", &query).await
    }

    /// The devices that are exposed to something, and match a filter in RSQL: since when and by
    /// whose decisions. A page may be empty while its `next` leads on.
    pub async fn exposure(
        &self,
        to: &ExposureTo,
        filter: Option<&str>,
        after: Option<&str>,
    ) -> Result<Read<Page<Exposure>>, ClientError> {
        let path = match to {
            ExposureTo::Release(release) => format!("/v1/reports/exposure/release/{release}"),
            ExposureTo::Config(document) => format!("/v1/reports/exposure/config/{document}"),
        };
        let query = [("filter", filter), ("after", after)];
        self.page(&path, &query).await
    }

    /// Everything that happened to a device, newest first, after the place `after`: at most 100
    /// entries.
    pub async fn device_timeline(
        &self,
        device: &Id,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Read<Page<TimelineEntry>>, ClientError> {
        let (path, limit) = (format!("/v1/devices/{device}/timeline"), limit.to_string());
        self.page(&path, &[("after", after), ("limit", Some(&limit))])
            .await
    }

    pub async fn device_events(
        &self,
        device: &Id,
        after: Option<&str>,
    ) -> Result<Read<DeviceEvents>, ClientError> {
        let after = after
            .map(|after| format!("?after={}", escape(after)))
            .unwrap_or_default();
        self.get(&format!("/v1/devices/{device}/events{after}"))
            .await
    }

    pub async fn device_config(&self, device: &Id) -> Result<Read<DeviceConfig>, ClientError> {
        self.get(&format!("/v1/devices/{device}/config")).await
    }

    pub async fn releases(&self, after: Option<&str>) -> Result<Read<Page<Release>>, ClientError> {
        self.page("/v1/firmware", &[("after", after)]).await
    }

    pub async fn release(&self, release: &Id) -> Result<Read<Release>, ClientError> {
        self.record(&format!("/v1/firmware/{release}")).await
    }

    pub async fn rollouts(&self, after: Option<&str>) -> Result<Read<Page<Rollout>>, ClientError> {
        self.page("/v1/rollouts", &[("after", after)]).await
    }

    pub async fn rollout(&self, rollout: &Id) -> Result<Read<Rollout>, ClientError> {
        self.record(&format!("/v1/rollouts/{rollout}")).await
    }

    /// The plan of a rollout in groups.
    pub async fn grouped_plan(&self, rollout: &Id) -> Result<Read<GroupedPlan>, ClientError> {
        self.record(&format!("/v1/rollouts/{rollout}/plan")).await
    }

    /// The progress of a rollout in groups.
    pub async fn groups(&self, rollout: &Id) -> Result<Read<RolloutGroups>, ClientError> {
        self.record(&format!("/v1/rollouts/{rollout}/groups")).await
    }

    /// The guards of the plan of a rollout.
    pub async fn install_rules(&self, rollout: &Id) -> Result<Read<InstallRules>, ClientError> {
        self.record(&format!("/v1/rollouts/{rollout}/rules")).await
    }

    /// The consent to a deployment of a plan with guards.
    pub async fn install_record(
        &self,
        rollout: &Id,
        device: &Id,
    ) -> Result<Read<InstallRecord>, ClientError> {
        let path = format!("/v1/deployments/{rollout}/{device}/consent");
        self.record(&path).await
    }

    pub async fn deployments(
        &self,
        rollout: &Id,
        after: Option<&str>,
    ) -> Result<Read<Page<Deployment>>, ClientError> {
        self.page(
            &format!("/v1/rollouts/{rollout}/deployments"),
            &[("after", after)],
        )
        .await
    }

    pub async fn deployment(
        &self,
        rollout: &Id,
        device: &Id,
    ) -> Result<Read<Deployment>, ClientError> {
        self.record(&format!("/v1/deployments/{rollout}/{device}"))
            .await
    }

    /// An open proposal, with what it still lacks.
    pub async fn proposal(&self, proposal: &Id) -> Result<Read<ProposalStanding>, ClientError> {
        self.get(&format!("/v1/proposals/{proposal}")).await
    }

    pub async fn alarms(&self, after: Option<&str>) -> Result<Read<Page<Alarm>>, ClientError> {
        self.page("/v1/alarms", &[("after", after)]).await
    }

    /// The desired document of a target.
    pub async fn desired(&self, target: &ConfigTarget) -> Result<Read<DesiredConfig>, ClientError> {
        self.record(&format!("/v1/config?{}", config_query(target)))
            .await
    }

    /// The deployments of a device, oldest first.
    pub async fn deployments_of(&self, device: &Id) -> Result<Read<Page<Deployment>>, ClientError> {
        self.page(&format!("/v1/devices/{device}/deployments"), &[])
            .await
    }
}

/// The call for a key. A node that has no such key may hide it, or be behind.
pub(crate) fn key_call(key: &PublicKey) -> Call {
    Call::get(format!("/v1/keys/{key}")).confirming_refusals()
}

/// A target as the query of `/v1/config`; empty for the whole fleet.
pub(crate) fn config_query(target: &ConfigTarget) -> String {
    match target {
        ConfigTarget::Fleet => String::new(),
        ConfigTarget::Model { model } => format!("model={}", escape(model)),
        ConfigTarget::District { district } => format!("district={district}"),
        ConfigTarget::Device { device } => format!("device={device}"),
    }
}

fn or_latest(height: Option<u64>) -> String {
    height.map_or_else(|| "latest".to_owned(), |height| height.to_string())
}

/// Percent-encoding of everything but letters, digits and `-._~/` (RFC 3986).
pub(crate) fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let escaped = text.bytes().map(|byte| {
        if plain(byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    });
    escaped.collect()
}
