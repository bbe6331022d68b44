//! The reads that are measured: every list, filter and history of the HTTP interface, at its begin
//! and in its middle, for an account that reads all and for one that reads two districts of fifty.

use super::city::{READER, RELEASE, ROLLOUT, device, district, gateway, owner};
use crate::fleet::administrator;

/// The account that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// The administrator, who reads the whole city.
    All,
    /// The operator of two districts.
    Few,
}

/// One read.
#[derive(Clone, Debug)]
pub struct Route {
    pub path: String,
    pub asker: Asker,
    /// The answer is a stream, of which only the first notification is awaited.
    pub is_stream: bool,
}

/// Facts of a block, for the routes of blocks.
#[derive(Clone, Debug)]
pub struct Place {
    /// A block with events.
    pub height: u64,
    /// A transaction of it.
    pub transaction: String,
}

/// All reads of a city with so many lists of a thousand devices.
pub fn all(lists: u64, place: &Place) -> Vec<Route> {
    let middle = device(lists / 2, 500);
    let route = |asker| {
        move |path: String| Route {
            path,
            asker,
            is_stream: false,
        }
    };
    let mut routes: Vec<Route> = Vec::new();
    routes.extend(lists_of_devices(lists).into_iter().map(route(Asker::All)));
    routes.extend(other_lists(lists).into_iter().map(route(Asker::All)));
    routes.extend(searches(lists).into_iter().map(route(Asker::All)));
    routes.extend(histories(lists).into_iter().map(route(Asker::All)));
    routes.extend(records(place).into_iter().map(route(Asker::All)));
    let for_few = [
        "/v1/devices",
        "/v1/alarms",
        "/v1/users",
        "/v1/rollouts",
        "/v1/firmware",
    ];
    routes.extend(for_few.map(str::to_owned).map(route(Asker::Few)));
    let deployments = format!("/v1/rollouts/{ROLLOUT}/deployments");
    routes.push(route(Asker::Few)(format!("/v1/devices?after={middle}")));
    routes.push(route(Asker::Few)(deployments));
    let stream = |path: String| Route {
        path,
        asker: Asker::All,
        is_stream: true,
    };
    routes.extend(feeds(lists).into_iter().map(stream));
    routes
}

/// A filter takes one of gateway, district, owner.
fn lists_of_devices(lists: u64) -> Vec<String> {
    let middle = device(lists / 2, 500);
    let filters = [
        String::new(),
        format!("gateway={}", gateway(0)),
        "gateway=gateway-00".to_owned(),
        "district=area-0".to_owned(),
        format!("district={}", district(0)),
        "district=none".to_owned(),
        format!("owner={}", owner(0)),
        "owner=owner-without".to_owned(),
    ];
    let mut paths = Vec::new();
    for filter in filters {
        paths.push(format!("/v1/devices?{filter}"));
        paths.push(format!("/v1/devices?{filter}&limit=1000"));
        paths.push(format!("/v1/devices?{filter}&after={middle}"));
    }
    // An empty filter leaves an ampersand behind the question mark.
    paths.iter().map(|path| path.replace("?&", "?")).collect()
}

/// Filters that an index answers, that look at all devices, and that find nothing; and reports.
fn searches(lists: u64) -> Vec<String> {
    let filters = [
        format!("district=={}", district(0)),
        format!("owner=={};model!=x", owner(0)),
        format!("gateway=={};alarm==none", gateway(0)),
        "alarm==*".to_owned(),
        "last_seen=lt=-24h".to_owned(),
        "model==x*".to_owned(),
        "model==nothing".to_owned(),
    ];
    let escape = |filter: &String| {
        let filter = filter.replace('=', "%3D").replace(';', "%3B");
        filter.replace('*', "%2A")
    };
    let mut paths = Vec::new();
    for filter in filters.iter().map(escape) {
        paths.push(format!("/v1/devices?filter={filter}"));
        paths.push(format!("/v1/reports/devices?filter={filter}&limit=1000"));
    }
    let document = "0".repeat(64);
    paths.push(format!("/v1/reports/exposure/release/{RELEASE}"));
    paths.push(format!("/v1/reports/exposure/config/{document}"));
    for device in [device(0, 0), device(lists / 2, 500)] {
        paths.push(format!("/v1/devices/{device}/timeline"));
    }
    paths
}

fn other_lists(lists: u64) -> Vec<String> {
    let deployments = format!("/v1/rollouts/{ROLLOUT}/deployments");
    let middle = device(lists / 2, 500);
    [
        "/v1/alarms",
        "/v1/alarms?limit=1000",
        "/v1/users",
        "/v1/users?limit=1000",
        "/v1/users?after=field-00005",
        "/v1/organizations",
        "/v1/firmware",
        "/v1/rollouts",
        "/v1/proposals",
        "/v1/nodes",
        "/v1/policies",
        "/v1/uploads",
        "/v1/auth/sessions",
        "/v1/status",
        "/v1/genesis",
        &deployments,
        &format!("{deployments}?limit=1000"),
        &format!("{deployments}?after={middle}"),
    ]
    .map(str::to_owned)
    .into()
}

fn histories(lists: u64) -> Vec<String> {
    let (long, short) = (device(0, 0), device(lists / 2, 500));
    let administrator = administrator();
    [
        format!("/v1/devices/{long}/events"),
        format!("/v1/devices/{long}/events?limit=1000"),
        format!("/v1/devices/{short}/events"),
        format!("/v1/devices/{long}/history"),
        format!("/v1/devices/{long}/history?limit=100"),
        format!("/v1/devices/{short}/history"),
        format!("/v1/devices/{long}/alarms"),
        format!("/v1/devices/{long}/config"),
        format!("/v1/devices/{long}/deployments"),
        format!("/v1/alarms/{long}/1/history"),
        format!("/v1/config/history?device={long}"),
        format!("/v1/config/history?district={}", district(0)),
        "/v1/config/history".to_owned(),
        format!("/v1/firmware/{RELEASE}/history"),
        format!("/v1/rollouts/{ROLLOUT}/history"),
        format!("/v1/users/{administrator}/history"),
        format!("/v1/users/{READER}/history"),
        "/v1/organizations/city/history".to_owned(),
        "/v1/governance/history".to_owned(),
    ]
    .into()
}

fn records(place: &Place) -> Vec<String> {
    let long = device(0, 0);
    let Place {
        height,
        transaction,
    } = place;
    [
        format!("/v1/devices/{long}"),
        format!("/v1/devices/{long}?proof=true"),
        format!("/v1/devices/{long}?linearizable=true"),
        format!("/v1/devices/{long}/state"),
        format!("/v1/alarms/{long}/1"),
        format!("/v1/config?device={long}"),
        format!("/v1/deployments/{ROLLOUT}/{long}"),
        format!("/v1/firmware/{RELEASE}"),
        format!("/v1/rollouts/{ROLLOUT}"),
        "/v1/users/reader".to_owned(),
        "/v1/organizations/city".to_owned(),
        format!("/v1/blocks/{height}"),
        format!("/v1/headers/{height}"),
        format!("/v1/transactions/{transaction}"),
        format!("/v1/proofs/transactions/{transaction}"),
        format!("/v1/proofs/events/{height}/0"),
        "/v1/proofs/validators".to_owned(),
    ]
    .into()
}

/// From the begin of the chain to the first match: what a client pays that was away for long.
fn feeds(lists: u64) -> Vec<String> {
    let (long, short) = (device(0, 0), device(lists / 2, 500));
    [
        "/v1/feed?after=0.0".to_owned(),
        "/v1/feed?after=0.0&kind=rollout_started".to_owned(),
        format!("/v1/feed?after=0.0&device={long}"),
        format!("/v1/feed?after=0.0&kind=deployment_moved&device={short}"),
        // A district of which there are devices in every city.
        format!("/v1/feed?after=0.0&district={}", district(lists.min(8) - 1)),
    ]
    .into()
}
