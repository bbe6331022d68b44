use std::collections::BTreeSet;

use serde_json::Value;

use super::routes::{Place, all};

/// Each GET of the API's description is measured, so that a new route is not forgotten.
#[test]
fn every_read_of_the_description_is_measured() {
    let text = include_str!("../../../api/openapi.json");
    let description: Value = serde_json::from_str(text).unwrap();
    let place = Place {
        height: 7,
        transaction: "00".to_owned(),
    };
    let measured: Vec<Vec<String>> = all(10, &place)
        .iter()
        .map(|route| parts(&route.path))
        .collect();
    let gets = description["paths"].as_object().unwrap().iter();
    let missing: BTreeSet<&String> = gets
        .filter(|(_, methods)| methods.get("get").is_some())
        .map(|(path, _)| path)
        .filter(|path| !LEFT_OUT.iter().any(|(left_out, _)| left_out == path))
        .filter(|path| {
            let wanted = parts(path);
            !measured.iter().any(|path| matches(&wanted, path))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Routes that are not measured, and why.
const LEFT_OUT: [(&str, &str); 16] = [
    ("/v1/archive/{height}", "pages of whole blocks"),
    ("/v1/artifacts/{digest}", "bytes of a file"),
    ("/v1/artifacts/{digest}/groups", "bytes of a file"),
    ("/v1/certificates/{height}", "one row, like a header"),
    ("/v1/feed/ws", "the same feed in another frame"),
    ("/v1/iotregistry/registrant", "one row by its name"),
    ("/v1/iotregistry/spec", "one row by its name"),
    ("/v1/rollouts/{rollout}/groups", "one row by its name"),
    ("/v1/rollouts/{rollout}/plan", "one row by its name"),
    ("/v1/rollouts/{rollout}/rules", "one row by its name"),
    (
        "/v1/deployments/{rollout}/{device}/consent",
        "one row by its name",
    ),
    (
        "/v1/proofs/receipts/{height}/{index}",
        "a proof as of the receipt of a transaction",
    ),
    ("/v1/iotregistry/thing", "one row by its name"),
    ("/v1/keys/{key}", "one row, like an account"),
    (
        "/v1/proposals/{proposal}",
        "proposals are few by their bound",
    ),
    (
        "/v1/proposals/{proposal}/history",
        "proposals are few by their bound",
    ),
];

fn parts(path: &str) -> Vec<String> {
    let path = path.split('?').next().unwrap();
    path.split('/').map(str::to_owned).collect()
}

fn matches(wanted: &[String], path: &[String]) -> bool {
    let same = |(wanted, part): (&String, &String)| wanted.starts_with('{') || wanted == part;
    wanted.len() == path.len() && wanted.iter().zip(path).all(same)
}
